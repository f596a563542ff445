"""What a worker remembers of the sources that it runs: nothing, or what a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.pipeline import Pipeline
from tasks.pipeline_engine import SourceEnd
from tasks.sources import SourceRef
from tasks.worker_config import WorkerConfig, WorkerCounts

if TYPE_CHECKING:
    from tasks.pipeline_resume import ToRun

_WITHDRAWN_TOGETHER = 500
_BUGS_SHOWN = 20


class NoMemory:
    """A worker without a checkpoint only counts."""

    def __init__(self, counts: WorkerCounts) -> None:
        self.counts = counts

    @property
    def cache_folder(self) -> Path | None:
        """Where sources may keep what saves time."""
        return None

    def to_run(self, refs: Iterator[SourceRef]) -> Iterator[SourceRef]:
        """Yield the sources that run."""
        return refs

    def ended(self, end: SourceEnd) -> None:
        """A source is done, or failed."""
        self.counts.sources["failed" if end.published is None else "done"] += 1

    def reopened(self, source: str) -> None:
        """A source got an answer after it was complete."""
        self.counts.sources["reopened"] += 1
        if len(self.counts.bugs) < _BUGS_SHOWN:
            self.counts.bugs.append(
                f'source "{source}" got an answer after it was complete, which is a bug of a '
                "stage: finish() must not return before the last answer"
            )


class Checkpointed(NoMemory):
    """A worker that records each source when all that came from it is durable.

    Before a source that is known runs again, what is known of it is withdrawn.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: WorkerConfig,
        counts: WorkerCounts,
        open_things: ExitStack,
    ) -> None:
        """Open the store and this process's own file in it; ``open_things`` closes both."""
        # Imported here: a pipeline without a checkpoint must not pay for it.
        from tasks.checkpoint.file_systems import MountTable
        from tasks.checkpoint.settings import StoreSettings
        from tasks.checkpoint.store import CheckpointStore
        from tasks.pipeline_resume import PipelineResume

        super().__init__(counts)
        pipeline.check_resumable()
        places = config.local_candidates
        settings = StoreSettings(
            Path(str(config.checkpoint)),
            None if places is None else tuple(map(Path, places)),
            MountTable(config.mounts),
        )
        self._store = open_things.enter_context(CheckpointStore(settings))
        self._resume = PipelineResume(pipeline, self._store, config.base, config.code_changes)
        self._writer = open_things.enter_context(self._store.writer(config.generation))
        self._fingerprints: dict[str, bytes] = {}

    @property
    def cache_folder(self) -> Path | None:
        """Beside the records."""
        return self._store.directory

    def to_run(self, refs: Iterator[SourceRef]) -> Iterator[SourceRef]:
        """Yield the sources that are not done; what is known of them is withdrawn before."""
        undone = self._resume.undone(refs)
        while block := list(islice(undone, _WITHDRAWN_TOGETHER)):
            known = [entry.name for entry, record in block if record is not None]
            if known:
                self._writer.withdraw(known)
            for entry, _ in block:
                yield self._begun(entry)

    def _begun(self, entry: ToRun) -> SourceRef:
        self._fingerprints[entry.name] = entry.fingerprint
        return entry.ref

    def ended(self, end: SourceEnd) -> None:
        """Record the source: as done, once what was published is durable; or as failed."""
        super().ended(end)
        name = end.ref.name
        fingerprint = self._fingerprints.pop(name)
        if end.published is None:
            from tasks.checkpoint.record import Outcome

            self._writer.record(name, fingerprint, Outcome.FAILED, reason=end.reason)
        else:
            published = end.published
            self._writer.record(
                name, fingerprint, outputs=published.outputs, unsynced=published.unsynced
            )

    def reopened(self, source: str) -> None:
        """Withdraw the record: it was taken too early."""
        super().reopened(source)
        self._writer.withdraw([source])

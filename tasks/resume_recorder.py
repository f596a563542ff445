"""Records in the checkpoint what became of the jobs of a run.

A job's fingerprint must be that of what it used.  So its files are looked at before it starts and
again after it ended; only if nothing changed in between are they what the job has read, and only
then their content is taken.  All that is slow happens in a thread of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import SimpleQueue

from tasks.checkpoint.errors import CheckpointError
from tasks.checkpoint.record import Outcome, Output
from tasks.checkpoint.writer import CheckpointWriter
from tasks.content_hashes import ContentHashes, FileStamp
from tasks.errors import HoldfastError
from tasks.fingerprint import Fingerprints, UnknownContentError, UsedFiles
from tasks.outputs import globbed_outputs, move_outputs_aside, outputs_of
from tasks.resume import ResumePlan
from tasks.spec import JobRecord

_log = logging.getLogger("holdfast.checkpoint")

_LOOK_HOLDS_S = 1.0
"""Thousands of jobs that start together and share their inputs look at them once."""

_FAILED_NEED = b"did not pass"
_Work = Callable[[], None]


class ResumeRecorder:
    """Withdraws, and records, for one run of a job graph.

    Life: ``withdraw`` before any job starts; ``starting`` right before each launch; ``passed`` and
    ``failed`` for each end, in their order; ``close`` in any case, before the generation ends.
    ``aside`` gives the folder into which earlier outputs of a job are moved, best on the same disk.
    ``stopped`` is called once, from another thread, when the checkpoint cannot be written any
    more: the run should end then, since nothing it does would be remembered.
    """

    def __init__(
        self,
        writer: CheckpointWriter,
        plan: ResumePlan,
        folder: Path,
        *,
        hashes: ContentHashes,
        aside: Callable[[str], Path],
        stopped: Callable[[HoldfastError], None] | None = None,
    ) -> None:
        self._writer = writer
        self._plan = plan
        self._aside = aside
        self._hashes = hashes
        self._before = Fingerprints(folder, hashes)
        self._after = Fingerprints(folder, hashes)
        self._outputs_changed_at = 0.0
        self._stopped = stopped
        self._known: dict[str, bytes | None] = dict(plan.fingerprints)
        """The fingerprint of what each ended job made; ``None`` where it is not known."""
        self._used: dict[str, UsedFiles | UnknownContentError] = {}
        self._globbed: dict[str, dict[str, FileStamp]] = {}
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._error: HoldfastError | None = None
        self.not_recorded: dict[str, str] = {}
        """Jobs that passed and will run again all the same, each with the reason."""

    def withdraw(self) -> None:
        """Take back the records of all jobs that are about to run, durably.

        Raises ``CheckpointError``: then no job may start.
        """
        self._writer.withdraw(self._plan.recorded)

    def starting(self, jobs: Sequence[JobRecord]) -> None:
        """Look at what these jobs use, and move their earlier outputs aside.

        Called right before each launch, in the scheduler's thread.  A job whose files cannot be
        looked at runs all the same; it is not recorded.  Raises ``OSError`` where outputs of an
        earlier attempt are in the way and cannot be moved.
        """
        for job in jobs:
            if job.outputs:
                self._make_room(job)
        # An older look is as good: whoever changed a file since then will be noticed at the end.
        not_before = max(time.monotonic() - _LOOK_HOLDS_S, self._outputs_changed_at)
        for job in jobs:
            try:
                self._used[job.id] = self._before.used_files(job, not_before)
            except UnknownContentError as error:
                self._used[job.id] = error

    def _make_room(self, job: JobRecord) -> None:
        cwd = self._before.working_directory(job)
        move_outputs_aside(job, cwd, self._aside(job.id))
        self._globbed[job.id] = globbed_outputs(job, cwd)

    def passed(self, job: JobRecord) -> None:
        """Record a job that passed and is not among the spared; returns at once."""
        ended_at = self._now_changed_by(job)
        self._submit(lambda: self._record(job, ended_at))

    def failed(self, job: JobRecord, reason: str) -> None:
        """Record a job that ended without passing; returns at once."""
        self._now_changed_by(job)
        self._submit(lambda: self._record_failure(job, reason))

    def _now_changed_by(self, job: JobRecord) -> float:
        now = time.monotonic()
        if job.outputs:
            self._outputs_changed_at = now
        return now

    def _submit(self, work: _Work) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._serve, name="holdfast-recorder", daemon=True
            )
            self._thread.start()
        self._queue.put(work)

    def close(self) -> None:
        """Record what waits, make it durable, close the writer.  Idempotent.

        Raises the ``CheckpointError`` that ended the recording, if one did.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
        self._hashes.save()
        self._writer.close()
        if self._error is not None:
            raise self._error

    # -- in the recorder's own thread ------------------------------------------------------

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            if self._error is not None:
                continue
            try:
                work()
            except HoldfastError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - told to the run, which ends
                _log.exception("recording failed; this is a bug")
                self._fail(CheckpointError(f"recording a job failed: {error}"))

    def _fail(self, error: HoldfastError) -> None:
        self._error = error
        if self._stopped is not None:
            self._stopped(error)

    def _record(self, job: JobRecord, ended_at: float) -> None:
        cwd = self._after.working_directory(job)
        self._known[job.id] = None
        try:
            fingerprint = self._after.of(job, self._used_by(job, ended_at), self._known.get)
            before = self._globbed.pop(job.id, {})
            outputs = outputs_of(job, cwd, self._hashes, before) if job.outputs else ()
        except (UnknownContentError, OSError) as error:
            self.not_recorded[job.id] = str(error)
            _log.warning('job "%s" passed, but will run again next time: %s', job.id, error)
            return
        self._known[job.id] = fingerprint.digest
        self._writer.record(
            job.id,
            fingerprint.digest,
            outputs=outputs,
            fields=fingerprint.fields,
            unsynced=_with_folders(cwd, outputs),
        )

    def _used_by(self, job: JobRecord, ended_at: float) -> UsedFiles:
        """Return the files that the job has used; raises ``UnknownContentError``."""
        before = self._used.pop(job.id, None)
        if before is None:
            raise UnknownContentError("nobody looked at its files before it started")
        if isinstance(before, UnknownContentError):
            raise before
        after = self._after.used_files(job, ended_at)
        changed = before.difference(after)
        if changed:
            raise UnknownContentError(f"{changed} changed while it ran")
        return after

    def _record_failure(self, job: JobRecord, reason: str) -> None:
        self._used.pop(job.id, None)
        self._globbed.pop(job.id, None)
        # A job that runs after any of its needs is known by which of them had failed.
        self._known[job.id] = _FAILED_NEED
        self._writer.record(job.id, b"", Outcome.FAILED, reason=reason)


def _with_folders(cwd: Path, outputs: Iterable[Output]) -> Iterable[str]:
    """Return the paths of outputs and of the folders that were perhaps made for them."""
    paths: dict[str, None] = {}
    for output in outputs:
        path = cwd / output.path
        paths[str(path)] = None
        for folder in path.parents:
            if folder == cwd or cwd not in folder.parents:
                break
            paths[str(folder)] = None
    return paths

"""The program that a worker process of a pipeline runs: its share of the sources, one by one.

It is a job like any other, so whoever kills it leaves nothing, and it may be killed at any moment:
what was recorded is done, the rest runs again.  Nothing of the items leaves the process but counts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from tasks.atomic_file import write_json_atomically
from tasks.errors import HoldfastError
from tasks.pipeline import Pipeline
from tasks.pipeline_engine import Engine
from tasks.pipeline_loading import load_pipeline
from tasks.pipeline_memory import Checkpointed, NoMemory
from tasks.sources import SourceRef
from tasks.worker_config import COUNTS_NAME, WorkerConfig, WorkerCounts

_COUNTS_EVERY_S = 1.0


class Worker:
    """Runs the sources of one share of a pipeline, in this process."""

    def __init__(
        self, pipeline: Pipeline, config: WorkerConfig, counts_file: Path | None = None
    ) -> None:
        self._pipeline = pipeline
        self._config = config
        self._counts_file = counts_file
        self._counted_at = 0.0
        self.counts = WorkerCounts()

    def run(self) -> WorkerCounts:
        """Run every source that is not done.

        Raises ``HoldfastError`` and ``OSError`` for what ends the whole run, such as a full disk;
        then, and when a signal ends it, what was complete is recorded first.
        """
        with ExitStack() as open_things:
            memory = self._memory(open_things)
            engine = Engine(self._pipeline, memory.ended, memory.reopened)
            self.counts.items = engine.counts.items
            self.counts.failures = engine.counts.failures
            self._open(open_things, memory)
            refs = self._seen(self._pipeline.source.refs(self._config.share.has))
            for ref in memory.to_run(refs):
                engine.run(ref)
                self._tell()
            engine.finish()
        self.counts.finished = True
        self._tell(now=True)
        return self.counts

    def _memory(self, open_things: ExitStack) -> NoMemory:
        if self._config.checkpoint is None:
            return NoMemory(self.counts)
        return Checkpointed(self._pipeline, self._config, self.counts, open_things)

    def _open(self, open_things: ExitStack, memory: NoMemory) -> None:
        pipeline = self._pipeline
        open_things.callback(pipeline.source.close)
        pipeline.source.open(memory.cache_folder)
        for stage in pipeline.stages:
            open_things.callback(stage.close)
            stage.open()
        open_things.callback(pipeline.sink.close)
        pipeline.sink.open()

    def _seen(self, refs: Iterator[SourceRef]) -> Iterator[SourceRef]:
        for ref in refs:
            self.counts.sources["seen"] += 1
            yield ref

    def _tell(self, *, now: bool = False) -> None:
        """Write the counts from time to time, for the driver."""
        at = time.monotonic()
        if self._counts_file is None or (not now and at - self._counted_at < _COUNTS_EVERY_S):
            return
        self._counted_at = at
        counts = self.counts.sources
        counts["spared"] = counts["seen"] - counts["done"] - counts["failed"]
        write_json_atomically(self._counts_file, self.counts.to_json())


def main(arguments: list[str] | None = None) -> int:
    """Run a worker as its configuration says, given as ``WorkerConfig.to_text``.

    Returns 0 when every source is done, 1 when some are not, and the code of what ended it.
    """
    (text,) = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    directory = os.environ.get("HOLDFAST_JOB_DIR")
    counts_file = Path(directory) / COUNTS_NAME if directory else None
    try:
        config = WorkerConfig.from_text(text)
        counts = Worker(load_pipeline(config.pipeline), config, counts_file).run()
    except HoldfastError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for line in (*counts.failures, *counts.bugs):
        sys.stderr.write(f"{line}\n")
    sys.stdout.write(json.dumps(dict(counts.sources)) + "\n")
    return 0 if counts.is_complete else 1


def _stop(number: int, _frame: FrameType | None) -> None:
    # What is complete is recorded on the way out; the source that is under way runs again.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())

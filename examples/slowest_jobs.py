"""An observer in one file: writes the slowest jobs of a run beside its results.

It is here to be read beside docs/how-to/add-an-observer.md.  In a flow of your own::

    @flow(task_runner=LocalTaskRunner(observers=[SlowestJobs]))
    def nightly(): ...
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path

from observers.base import Observer
from tasks.events import JobChanged, RunEnded


class SlowestJobs(Observer):
    """Writes ``slowest.txt`` into the run's directory when the run has ended.

    Holds no more than ``count`` jobs at a time, however many the run has.
    """

    def __init__(self, directory: Path, count: int = 10) -> None:
        self._path = directory / "slowest.txt"
        self._count = count
        self._slowest: list[tuple[float, str]] = []

    def jobs_changed(self, events: Sequence[JobChanged]) -> None:
        """Keep the slowest of those that ended; a batch at a time, since this must be quick."""
        ended = [
            (event.end.runtime_s, event.job.id)
            for event in events
            if event.end is not None and event.end.runtime_s is not None
        ]
        if ended:
            self._slowest = heapq.nlargest(self._count, [*self._slowest, *ended])

    def run_ended(self, event: RunEnded) -> None:
        """Write the file; called for cancelled and crashed runs too."""
        lines = [f"{runtime_s:10.3f} s  {job_id}\n" for runtime_s, job_id in self._slowest]
        self._path.write_text("".join(lines))

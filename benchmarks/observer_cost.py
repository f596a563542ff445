"""What the observers cost the driver for each job: a generated stream, no processes.

    python benchmarks/observer_cost.py [--jobs N] [--batch N] [--rounds N] [--directory DIR]

Each job is added, queued, started and ended; events come in batches as the scheduler sends them.
The figure is the CPU time (user and system) of the thread that calls the observers, in
microseconds for each job: the median of the rounds, with the least and the most.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from observers.base import Observer
from observers.counts import RunCounts
from observers.dispatch import Observers
from observers.job_list import JobList
from observers.journal import Journal
from observers.status_links import StatusLinks
from tasks.events import JobChanged, JobEnd, RunEnded, RunStarted
from tasks.spec import JobRecord
from tasks.status import JobStatus, RunStatus


class Counters(Observer):
    """The part of the progress display that runs in the scheduler's thread."""

    def __init__(self, directory: Path) -> None:
        del directory
        self._counts = RunCounts()

    def jobs_added(self, jobs: Sequence[JobRecord]) -> None:
        self._counts.add(jobs)

    def jobs_changed(self, events: Sequence[JobChanged]) -> None:
        self._counts.change(events)


MAKERS: dict[str, Sequence[Callable[[Path], Observer]]] = {
    "journal": [Journal],
    "status links": [StatusLinks],
    "job list": [JobList],
    "counters": [Counters],
    "all": [Journal, JobList, StatusLinks, Counters],
}


def batches(jobs: Sequence[JobRecord], size: int) -> Iterator[list[JobChanged]]:
    """Yield what happens to the jobs: all queued, then ``size`` at a time started and ended."""
    at = time.time()
    yield [JobChanged(at, job, JobStatus.SCHEDULED, JobStatus.QUEUED, 0, "local") for job in jobs]
    end = JobEnd(exit_code=0, runtime_s=0.001234, cpu_s=0.000987, max_rss_bytes=3_500_000)
    running: list[JobRecord] = []
    for first in range(0, len(jobs) + size, size):
        at += 0.001
        started = jobs[first : first + size]
        events = [
            JobChanged(
                at, job, JobStatus.RUNNING, JobStatus.PASSED, 1, "local", cause=None, end=end
            )
            for job in running
        ]
        events += [
            JobChanged(at, job, JobStatus.QUEUED, JobStatus.RUNNING, 1, "local") for job in started
        ]
        running = list(started)
        yield events


def run_once(
    makers: Sequence[Callable[[Path], Observer]], count: int, size: int, at: Path
) -> float:
    """Return the CPU seconds that the observers take for ``count`` jobs."""
    jobs = [
        JobRecord(f"test-{number}", ("/bin/true",), (), {"timeout_s": 60.0})
        for number in range(count)
    ]
    stream = list(batches(jobs, size))
    (at / "jobs").mkdir(parents=True)
    for job in jobs:  # the keeper's work
        (at / "jobs" / job.id).mkdir()
    observers = Observers([maker(at) for maker in makers])
    began = time.thread_time()
    observers.run_started(RunStarted(time.time(), {"run": "benchmark", "name": "benchmark"}))
    observers.jobs_added(jobs)
    for events in stream:
        observers.jobs_changed(events)
    observers.run_ended(RunEnded(time.time(), RunStatus.COMPLETED, {"passed": count}))
    observers.close()
    assert not observers.failed, observers.failed
    return time.thread_time() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=8, help="jobs that end in one batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", help="where the files are written (default: temporary)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    # One folder, removed at the end: ext4 is slow to create files for seconds after many
    # were deleted, since it passes over every inode that was freed lately.
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        for name, makers in MAKERS.items():
            each_us = [
                run_once(makers, options.jobs, options.batch, Path(folder) / f"{name}-{count}")
                / options.jobs
                * 1e6
                for count in range(options.rounds)
            ]
            figures[name] = {
                "median_us": statistics.median(each_us),
                "min_us": min(each_us),
                "max_us": max(each_us),
            }
    if options.json:
        print(json.dumps({"jobs": options.jobs, "batch": options.batch, "cpu_us_per_job": figures}))
        return
    print(f"{options.jobs:,} jobs, {options.batch} in a batch; CPU µs for each job")
    for name, row in figures.items():
        print(f"{name:13} {row['median_us']:6.1f}  ({row['min_us']:.1f} to {row['max_us']:.1f})")


if __name__ == "__main__":
    main()

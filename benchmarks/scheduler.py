"""What the scheduler itself costs: a layered graph on the fake backend, nothing else running.

    python benchmarks/scheduler.py [--jobs N ...] [--json FILE]

Each job needs two of the layer before (layers of 1,000) and passes at once; there are no files
and no journal.  Every size runs in a process of its own, once without a watcher and once with
one that is told every event and forgets it.  Memory is anonymous memory per job: the records of
the jobs, and what the scheduler keeps for them beside; the peak counts everything, the
interpreter too.  A cost that grows with the size of the graph would show in the last column,
which is processor time: what else the machine does hardly touches it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LAYER = 1_000
SIZES = (10_000, 100_000, 1_000_000)
ROOT = Path(__file__).resolve().parents[1]


def layered_jobs(count: int) -> list[Any]:
    """Return jobs of which each, but for the first layer, needs two of the layer before."""
    from tasks.spec import JobRecord

    ids = [f"job-{n}" for n in range(count)]

    def needs(n: int) -> tuple[str, ...]:
        before = (n // LAYER - 1) * LAYER
        return (ids[n - LAYER], ids[before + n * 7 % LAYER]) if n >= LAYER else ()

    return [JobRecord(ids[n], "true", needs(n)) for n in range(count)]


class Listener:
    """Is told everything and keeps nothing but a count."""

    def __init__(self) -> None:
        self.events = 0

    def jobs_added(self, jobs: Sequence[object]) -> None:
        """Forget them."""

    def jobs_changed(self, events: Sequence[object]) -> None:
        """Count them."""
        self.events += len(events)

    def kill_requested(self, event: object) -> None:
        """Nobody asks for that here."""

    run_paused = run_unpaused = kill_requested


def measure(count: int, watched: bool) -> dict[str, Any]:
    """Run one graph in this process."""
    from backends.fake import FakeBackend
    from backends.scheduler import Scheduler
    from tasks.run_context import RunContext

    empty = _anonymous_bytes()
    jobs = layered_jobs(count)
    with_records = _anonymous_bytes()
    backend = FakeBackend(RunContext("benchmark", None))
    scheduler = Scheduler({"fake": backend}, "fake", Listener() if watched else None)
    began, cpu_began = time.perf_counter(), time.process_time()
    scheduler.add(jobs)
    added = time.perf_counter()
    scheduler.finish()
    counts = scheduler.run()
    ended, cpu_s = time.perf_counter(), time.process_time() - cpu_began
    if counts["passed"] != count:
        raise SystemExit(f"only {counts} of {count} jobs passed")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "jobs": count,
        "watched": watched,
        "add_s": round(added - began, 3),
        "run_s": round(ended - added, 3),
        "jobs_per_s": round(count / (ended - began)),
        "record_bytes": round((with_records - empty) / count),
        "scheduler_bytes": round((_anonymous_bytes() - with_records) / count),
        "peak_bytes": round(peak / count),
        "cpu_us_per_job": round(cpu_s / count * 1e6, 2),
    }


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell a process's anonymous memory")


def measure_all(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Run each size in a process of its own, without and with a watcher."""
    results = []
    for count in sizes:
        for watched in (False, True):
            command = [sys.executable, __file__, "--one", str(count), *["--watched"] * watched]
            told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            results.append(json.loads(told.stdout))
    return results


def print_table(results: Sequence[dict[str, Any]]) -> None:
    """Print one line for each result."""
    print(
        "|      jobs | watcher | add s | run s |  jobs/s | B/record | B/job | peak B | CPU µs/job |"
    )
    print(
        "|----------:|:--------|------:|------:|--------:|---------:|------:|-------:|-----------:|"
    )
    for each in results:
        print(
            f"| {each['jobs']:>9,} | {'yes' if each['watched'] else 'no':7} "
            f"| {each['add_s']:5.2f} | {each['run_s']:5.2f} | {each['jobs_per_s']:>7,} "
            f"| {each['record_bytes']:8} | {each['scheduler_bytes']:5} | {each['peak_bytes']:6} "
            f"| {each['cpu_us_per_job']:10.2f} |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--jobs", type=int, nargs="+", default=SIZES)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--watched", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if options.one is not None:
        print(json.dumps(measure(options.one, options.watched)))
        return
    results = measure_all(options.jobs)
    print_table(results)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

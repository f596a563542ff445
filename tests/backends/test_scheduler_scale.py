"""What a job costs the scheduler, and that the cost does not grow with the graph."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from support.manual_run import job

from backends.fake import FakeBackend
from backends.scheduler import Limits, Scheduler
from backends.timers import Timers
from tasks.clock import VirtualClock
from tasks.run_context import RunContext
from tasks.spec import JobRecord

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 1_200


def layered(count: int, layer: int) -> list[JobRecord]:
    return [
        job(f"j{n}", *((f"j{n - layer}", f"j{(n // layer - 1) * layer}") if n >= layer else ()))
        for n in range(count)
    ]


def run(jobs: list[JobRecord], limits: Limits | None = None) -> Scheduler:
    timers = Timers(VirtualClock())
    backend = FakeBackend(RunContext("r", None), timers=timers)
    scheduler = Scheduler({"fake": backend}, "fake", timers=timers, limits=limits)
    scheduler.add(jobs)
    scheduler.finish()
    assert scheduler.run()["passed"] == len(jobs)
    return scheduler


def test_a_job_costs_little_memory_its_record_included() -> None:
    """Sabotage: keep an object for each job beside its record."""
    run(layered(2_000, 100))  # what is allocated once
    gc.collect()
    tracemalloc.start()
    try:
        count = 20_000
        scheduler = run(layered(count, 500))
        gc.collect()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert scheduler.counts()["passed"] == count
    assert kept / count < 600
    assert peak / count < MOST_BYTES


def test_what_is_kept_in_the_end_is_rows_and_not_queues() -> None:
    scheduler = run(layered(2_000, 50), Limits(max_parallel=3))
    engine = scheduler._engine
    assert not engine._handed_out
    assert not engine._kill_causes
    assert not engine.states.ready
    assert all(kind.queued == 0 for kind in scheduler._intake.kinds)
    assert all(supply.in_use == 0 for supply in scheduler._intake.supplies.all)


@pytest.mark.parametrize("parallel", [None, 4])
def test_the_time_for_a_job_does_not_grow_with_the_graph(parallel: int | None) -> None:
    """Sabotage: look through all jobs in each turn."""

    def seconds(count: int) -> float:
        jobs = layered(count, 200)
        began = time.process_time()
        run(jobs, Limits(max_parallel=parallel))
        return time.process_time() - began

    seconds(1_000)
    small = min(seconds(2_000) for _ in range(5))
    assert seconds(20_000) < 10 * small * 4


@pytest.mark.soak
def test_a_million_jobs_run_at_sixty_thousand_a_second_in_the_memory_they_may_have() -> None:
    told = subprocess.run(
        [sys.executable, "benchmarks/scheduler.py", "--one", "1000000"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    figures = json.loads(told.stdout)
    assert figures["jobs_per_s"] >= 60_000
    assert figures["record_bytes"] + figures["scheduler_bytes"] <= MOST_BYTES
    assert figures["peak_bytes"] <= MOST_BYTES

"""The scheduler in real threads, on real time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.manual_run import RecordingWatcher, job
from support.waiting import wait_for

from backends.fake import FakeBackend
from backends.fake_outcome import fails, hangs, passes
from backends.fake_policy import DeclaredPolicy, FakePolicy, RandomPolicy, everything_passes
from backends.scheduler import Limits, Scheduler
from tasks.errors import StateError
from tasks.run_context import RunContext
from tasks.status import CauseKind, JobStatus


@contextmanager
def running(
    policy: FakePolicy = everything_passes, **options: object
) -> Iterator[tuple[Scheduler, RecordingWatcher, threading.Thread]]:
    watcher = RecordingWatcher()
    backend = FakeBackend(RunContext("r", None), policy)
    scheduler = Scheduler({"fake": backend}, "fake", watcher, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    try:
        yield scheduler, watcher, thread
    finally:
        scheduler.kill_all("test", "the test is over", grace_s=0.0)
        scheduler.finish()
        thread.join(20)
        backend.close()
    assert not thread.is_alive()


@pytest.fixture
def busy_switching() -> Iterator[None]:
    """Have threads take turns far more often than usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("busy_switching")
def test_jobs_that_eight_threads_add_at_once_all_end_exactly_once() -> None:
    limits = Limits(max_parallel=50, resources={"licence": 7, "gpu": ("0", "1", "2")})
    policy = RandomPolicy(1, (0.0, 0.002), failing=0.1)
    with running(policy, limits=limits) as (scheduler, watcher, thread):

        def add(name: str) -> None:
            last: str | None = None
            for index in range(200):
                rest = [{}, {"resources": {"licence": 2}}, {"resources": {"gpu": 1}}][index % 3]
                jobs = [job(f"{name}-{index}-{n}", **rest) for n in range(3)]
                if last is not None:
                    jobs.append(job(f"{name}-{index}-after", last, needs_policy="any"))
                scheduler.add(jobs)
                last = jobs[0].id

        adders = [threading.Thread(target=add, args=(f"t{n}",)) for n in range(8)]
        for adder in adders:
            adder.start()
        while any(adder.is_alive() for adder in adders):
            # "skipped" counts some of the passed once more; there are none here.
            assert sum(scheduler.counts().values()) <= 8 * (200 * 4 - 1)
            scheduler.waiting_for()
            time.sleep(0.001)
        scheduler.finish()
        thread.join(60)
        assert not thread.is_alive()
        counts = scheduler.counts()
        assert counts["passed"] + counts["failed"] + counts["killed"] == 8 * (200 * 4 - 1)
        assert all(status.is_end for status in watcher.status.values())
        assert len(watcher.status) == 8 * (200 * 4 - 1)


@pytest.mark.usefixtures("busy_switching")
def test_requests_from_many_threads_leave_no_job_without_an_end() -> None:
    policy = RandomPolicy(3, (0.0, 0.003), failing=0.2, hanging=0.1)
    with running(policy, limits=Limits(max_parallel=20)) as (scheduler, watcher, thread):
        scheduler.add(
            [job(f"j{n}", *([f"j{n - 7}"] if n > 6 else []), retries=1) for n in range(900)]
        )

        def meddle(seed: int) -> None:
            for n in range(seed, 900, 9):
                scheduler.pause()
                scheduler.kill([f"j{n}"], "anna", "meddling", grace_s=0.0)
                scheduler.set_limits(max_parallel=1 + n % 30)
                scheduler.unpause()

        meddlers = [threading.Thread(target=meddle, args=(seed,)) for seed in range(5)]
        for meddler in meddlers:
            meddler.start()
        for meddler in meddlers:
            meddler.join(60)
        scheduler.kill_all("anna", "enough", grace_s=0.0)
        scheduler.finish()
        thread.join(60)
        assert not thread.is_alive()
        assert all(status.is_end for status in watcher.status.values())
        counts = scheduler.counts()
        assert counts["passed"] + counts["failed"] + counts["killed"] == 900


def test_a_kill_from_another_thread_ends_a_run_that_hangs() -> None:
    with running(lambda _: hangs()) as (scheduler, watcher, thread):
        scheduler.add([job("a"), job("b", "a")])
        wait_for(lambda: scheduler.status("a") is JobStatus.RUNNING, "the start of the job")
        scheduler.kill_all("anna", "enough")
        scheduler.finish()
        thread.join(20)
        cause = watcher.end("a").cause
        assert cause is not None
        assert cause.kind is CauseKind.CANCELLED


def test_a_retry_waits_for_its_delay_in_real_time() -> None:
    policy = DeclaredPolicy({"a": [fails(), passes()]})
    with running(policy) as (scheduler, watcher, thread):
        scheduler.add([job("a", retries=1, retry_delay_s=0.2)])
        scheduler.finish()
        thread.join(20)
        first, second = (e for e in watcher.of("a") if e.after is JobStatus.RUNNING)
        assert second.at - first.at >= 0.19


def test_a_delay_of_centuries_is_no_error() -> None:
    with running(DeclaredPolicy({"a": fails()})) as (scheduler, watcher, _):
        scheduler.add([job("a", retries=1, retry_delay_s=1e12)])
        wait_for(lambda: scheduler.waiting_for(), "the delay")
        scheduler.add([job("b")])
        wait_for(lambda: scheduler.counts()["passed"] == 1, "another job")
        assert watcher.way("a") == "SQRQ"


def test_an_idle_scheduler_uses_no_processor_time() -> None:
    """Sabotage: wait with a short time limit in a loop."""
    with running(lambda _: hangs()) as (scheduler, _, _thread):
        turns = 0
        turn = scheduler._turn

        def counting_turn(request: object) -> None:
            nonlocal turns
            turns += 1
            turn(request)  # type: ignore[arg-type]

        scheduler._turn = counting_turn  # type: ignore[method-assign]
        scheduler.add([job(f"j{n}") for n in range(8)])
        wait_for(lambda: scheduler.counts().get("running") == 8, "the start of the jobs")
        began, used = turns, time.process_time()
        time.sleep(0.5)
        assert turns == began
        assert time.process_time() - used < 0.1


def test_nothing_can_be_added_once_the_run_has_ended() -> None:
    with running() as (scheduler, _, thread):
        scheduler.finish()
        thread.join(20)
        with pytest.raises(StateError):
            scheduler.add([job("a")])
        scheduler.kill_all("anna", "too late")  # asked of a run that is over: nothing happens

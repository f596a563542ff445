"""Which ends are followed by another attempt, when, and how often."""

from __future__ import annotations

import pytest
from support.manual_run import ManualRun, job

from backends.fake_outcome import (
    FakeOutcome,
    cannot_launch,
    fails,
    hangs,
    is_preempted,
    is_signalled,
    loses_its_node,
    passes,
    runs_out_of_memory,
)
from backends.scheduler import Limits
from backends.scheduling.retries import FREE_RETRIES
from tasks.status import Cause, CauseKind, JobStatus


def test_a_retry_goes_from_running_to_queued_with_the_end_of_the_attempt() -> None:
    run = ManualRun({"a": [fails(3, 1.0), passes(2.0)]})
    run.add(job("a", retries=1))
    run.finish()
    assert run.watcher.way("a") == "SQRQRP"
    again = run.watcher.of("a")[2]
    assert (again.before, again.after, again.attempt) == (JobStatus.RUNNING, JobStatus.QUEUED, 1)
    assert again.end is not None
    assert (again.end.exit_code, again.end.runtime_s) == (3, 1.0)
    assert again.cause is not None
    assert again.cause.kind is CauseKind.EXIT_CODE
    assert run.watcher.end("a").attempt == 2
    assert [launch.attempt for launch in run.backend.launches] == [1, 2]


@pytest.mark.parametrize(
    ("outcome", "attempts"),
    [
        (fails(1), 3),
        (is_signalled(11), 3),
        (runs_out_of_memory(), 3),
        (hangs(), 3),  # ends by its time limit
        (cannot_launch(), 1),
        (FakeOutcome(0, JobStatus.FAILED, Cause(CauseKind.MISSING_OUTPUT, "no out.txt")), 1),
        (FakeOutcome(0, JobStatus.FAILED, Cause(CauseKind.FAIL_PATTERN, "FATAL")), 1),
        (FakeOutcome(0, JobStatus.KILLED, Cause(CauseKind.DRIVER_LOST, "driver died"), None), 1),
    ],
    ids=lambda value: (
        value.cause.kind.value if isinstance(value, FakeOutcome) and value.cause else ""
    ),
)
def test_retries_count_ends_by_exit_code_signal_time_and_memory(
    outcome: FakeOutcome, attempts: int
) -> None:
    run = ManualRun({"a": outcome})
    run.add(job("a", retries=2, timeout_s=4.0))
    run.finish()
    assert len(run.backend.launches) == attempts


@pytest.mark.parametrize(("code", "attempts"), [(75, 3), (1, 1)])
def test_where_exit_codes_are_given_only_those_are_retried(code: int, attempts: int) -> None:
    run = ManualRun({"a": fails(code)})
    run.add(job("a", retries=2, retry_exit_codes=(75, 76)))
    run.finish()
    assert len(run.backend.launches) == attempts


def test_given_exit_codes_do_not_keep_a_timeout_from_being_retried() -> None:
    run = ManualRun({"a": [hangs(), passes()]})
    run.add(job("a", retries=1, retry_exit_codes=(75,), timeout_s=1.0))
    assert run.finish()["passed"] == 1


@pytest.mark.parametrize("outcome", [is_preempted(1.0), loses_its_node(1.0)])
def test_preemption_and_a_lost_node_are_free_of_charge(outcome: FakeOutcome) -> None:
    run = ManualRun({"a": [outcome] * 5 + [fails(), passes()]})
    run.add(job("a", retries=1))
    assert run.finish()["passed"] == 1
    assert run.watcher.end("a").attempt == 7


def test_a_job_that_takes_every_node_down_with_it_comes_to_an_end() -> None:
    run = ManualRun({"a": loses_its_node()})
    run.add(job("a"))
    run.finish()
    end = run.watcher.end("a")
    assert end.attempt == FREE_RETRIES + 1
    assert end.cause is not None
    assert end.cause.kind is CauseKind.LOST_NODE


def test_during_the_delay_of_a_retry_others_use_its_slot_and_its_resources() -> None:
    run = ManualRun(
        {"a": [fails(), passes(1.0)], "b": passes(3.0)},
        limits=Limits(max_parallel=1, resources={"gpu": ("0",)}),
    )
    run.add(
        job("a", retries=1, retry_delay_s=2.0, resources={"gpu": 1}),
        job("b", resources={"gpu": 1}),
    )
    assert run.watcher.way("a") == "SQRQ"
    assert run.watcher.way("b") == "SQR"
    assert [str(each) for each in run.scheduler.waiting_for()] == [
        "1 job waits for the delay before their retry"
    ]
    run.advance(2.5)
    assert run.watcher.way("a") == "SQRQ", "its delay is over, but b is there"
    run.advance(0.5)
    assert run.watcher.way("a") == "SQRQR"


def test_a_retry_does_not_start_before_its_delay_is_over() -> None:
    run = ManualRun({"a": [fails(), passes()]})
    run.add(job("a", retries=1, retry_delay_s=10.0))
    run.advance(9.5)
    assert run.watcher.way("a") == "SQRQ"
    run.advance(0.5)
    assert run.watcher.way("a") == "SQRQRP"


def test_a_run_waits_for_the_delay_of_its_last_job() -> None:
    run = ManualRun({"a": [fails(), passes()]})
    run.add(job("a", retries=1, retry_delay_s=30.0))
    assert run.finish()["passed"] == 1


def test_a_job_that_is_killed_during_its_delay_ends_once_and_stays_ended() -> None:
    run = ManualRun({"a": fails()})
    run.add(job("a", retries=3, retry_delay_s=5.0))
    run.scheduler.kill(["a"], "anna", "leave it")
    run.advance(100.0)
    assert run.watcher.way("a") == "SQRQK"
    assert run.watcher.end("a").attempt == 1


def test_dependents_of_a_job_wait_for_its_last_attempt() -> None:
    run = ManualRun({"a": [fails(), fails(), passes()]})
    run.add(job("a", retries=2, retry_delay_s=1.0), job("b", "a"))
    run.advance(1.5)
    assert run.watcher.way("b") == "S"
    run.advance(1.0)
    assert run.watcher.way("b") == "SQR"

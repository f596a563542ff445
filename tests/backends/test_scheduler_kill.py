"""Kills, fail-fast, and what is told of them."""

from __future__ import annotations

import pytest
from support.manual_run import ManualRun, job

from backends.fake_outcome import fails, hangs, passes
from backends.scheduler import Limits
from tasks.errors import UnknownError
from tasks.events import KillRequested
from tasks.status import CauseKind, JobStatus


def test_kill_all_ends_what_waits_at_once_and_what_runs_through_its_backend() -> None:
    run = ManualRun({"a": hangs(ignores_sigterm=True)}, limits=Limits(max_parallel=1))
    run.add(job("a", grace_s=3.0), job("b"), job("c", "a"), job("d", "c"))
    run.scheduler.kill_all("SIGINT", "stopped by SIGINT")
    run.idle()
    assert [run.watcher.way(each) for each in "bcd"] == ["SQK", "SK", "SK"]
    assert run.watcher.way("a") == "SQR", "its grace is not over"
    run.advance(3.0)
    assert run.watcher.way("a") == "SQRK"
    for each in "abcd":
        cause = run.watcher.end(each).cause
        assert cause is not None
        assert (cause.kind, cause.message) == (CauseKind.CANCELLED, "stopped by SIGINT")
        assert cause.context["by"] == "SIGINT"


def test_a_kill_is_told_before_the_ends_that_come_of_it() -> None:
    run = ManualRun({"a": hangs()})
    run.add(job("a"), job("b", "a"))
    run.scheduler.kill_all("anna", "enough")
    run.idle()
    at = run.clock.time()
    place = run.watcher.all.index(KillRequested(at, "anna", "enough"))
    assert [event.job.id for event in run.watcher.all[place + 1 :]] == ["b", "a"]  # type: ignore[attr-defined]


def test_a_second_kill_all_passes_its_shorter_grace_on_and_keeps_the_first_cause() -> None:
    run = ManualRun({"a": hangs(ignores_sigterm=True)})
    run.add(job("a"))
    run.scheduler.kill_all("SIGINT", "first", grace_s=60.0)
    run.idle()
    run.scheduler.kill_all("SIGINT", "second", grace_s=0.0)
    run.idle()
    assert [grace_s for _, grace_s in run.backend.kills] == [60.0, 0.0]
    cause = run.watcher.end("a").cause
    assert cause is not None
    assert cause.message == "first"


def test_a_job_that_ends_by_itself_while_it_is_being_killed_keeps_its_end() -> None:
    outcomes = {"a": passes(1.0), "b": fails(7, 1.0)}
    run = ManualRun({name: _stubborn(outcome) for name, outcome in outcomes.items()})
    run.add(job("a"), job("b", retries=3))
    run.scheduler.kill_all("anna", "enough", grace_s=10.0)
    run.advance(1.0)
    assert run.watcher.end("a").after is JobStatus.PASSED
    b = run.watcher.end("b")
    assert (b.after, b.attempt) == (JobStatus.FAILED, 1)
    assert b.cause is not None
    assert b.cause.kind is CauseKind.EXIT_CODE


def _stubborn(outcome):
    from dataclasses import replace

    return replace(outcome, ignores_sigterm=True)


def test_jobs_that_are_added_after_kill_all_end_at_once_with_its_cause() -> None:
    run = ManualRun()
    run.scheduler.kill_all("anna", "enough", kind=CauseKind.DRIVER_LOST)
    run.add(job("a"), job("b", "a"), job("c"), held=["c"], passed=["b"])
    assert [run.watcher.way(each) for each in "abc"] == ["SK", "SP", "SK"]
    cause = run.watcher.end("a").cause
    assert cause is not None
    assert cause.kind is CauseKind.DRIVER_LOST
    assert run.finish()["killed"] == 2


def test_kill_all_while_paused_ends_the_run() -> None:
    run = ManualRun()
    run.scheduler.pause()
    run.add(job("a"))
    run.scheduler.kill_all("anna", "enough")
    assert run.finish() == {"passed": 0, "failed": 0, "killed": 1, "skipped": 0}


def test_single_jobs_can_be_killed_and_their_dependents_end_for_it() -> None:
    run = ManualRun({"a": hangs()}, limits=Limits(max_parallel=1))
    run.add(job("a"), job("b"), job("c"), job("d", "b"), job("e", "a"))
    run.scheduler.kill(["a", "b"], "anna", "wrong parameters", grace_s=0.5)
    run.idle()
    assert run.backend.kills == [([1], 0.5)]
    for each in "ab":
        cause = run.watcher.end(each).cause
        assert cause is not None
        assert (cause.kind, cause.message) == (CauseKind.CANCELLED, "wrong parameters")
    for each in "de":
        cause = run.watcher.end(each).cause
        assert cause is not None
        assert cause.kind is CauseKind.DEPENDENCY
    (told,) = run.watcher.others
    assert isinstance(told, KillRequested)
    assert told.jobs == ["a", "b"]
    assert run.finish()["passed"] == 1


def test_jobs_that_are_killed_together_all_have_the_cause_although_they_need_each_other() -> None:
    run = ManualRun({"a": hangs()})
    run.add(job("a"), job("b", "a"), job("c", "b"))
    run.scheduler.kill(["b", "c"], "anna", "not these")
    run.idle()
    for each in "bc":
        cause = run.watcher.end(each).cause
        assert cause is not None
        assert cause.kind is CauseKind.CANCELLED


def test_a_killed_job_is_not_retried_although_it_may_be() -> None:
    run = ManualRun({"a": hangs()})
    run.add(job("a", retries=5))
    run.scheduler.kill(["a"], "anna", "no")
    run.idle()
    assert run.watcher.way("a") == "SQRK"


def test_an_ended_job_stays_as_it_is_when_it_is_killed() -> None:
    run = ManualRun()
    run.add(job("a"))
    run.advance(1.0)
    run.scheduler.kill(["a"], "anna", "too late")
    run.idle()
    assert run.watcher.way("a") == "SQRP"


def test_a_job_that_is_named_twice_is_killed_once() -> None:
    run = ManualRun({"a": hangs()}, limits=Limits(max_parallel=1))
    run.add(job("a"), job("b"))
    run.scheduler.kill(["b", "a", "b", "a"], "anna", "no")
    run.idle()
    assert (run.watcher.way("a"), run.watcher.way("b")) == ("SQRK", "SQK")
    assert run.finish()["killed"] == 2


def test_an_unknown_job_cannot_be_killed_and_then_none_is() -> None:
    run = ManualRun({"a": hangs()})
    run.add(job("a"))
    with pytest.raises(UnknownError, match='no job "b"'):
        run.scheduler.kill(["a", "b"], "anna", "no")
    run.idle()
    assert run.watcher.way("a") == "SQR"


def test_what_a_backend_ended_unasked_is_named_so() -> None:
    run = ManualRun({"a": hangs()})
    run.add(job("a"))
    run.backend.close()
    run.idle()
    cause = run.watcher.end("a").cause
    assert cause is not None
    assert cause.kind is CauseKind.CANCELLED
    assert 'backend "fake" ended the attempt unasked' in cause.message


def test_what_a_backend_remarks_of_a_kill_is_added_to_who_asked_for_it() -> None:
    from backends.base import Completion
    from tasks.events import JobEnd
    from tasks.status import Cause

    run = ManualRun({"a": hangs(ignores_sigterm=True)})
    run.add(job("a"))
    run.scheduler.kill_all("anna", "enough", grace_s=60.0)
    run.idle()
    remark = Cause(CauseKind.CANCELLED, "killed; 1 process is stuck", {"stuck": ["17"]})
    run.backend._completed([Completion(1, 1, JobStatus.KILLED, JobEnd(), remark)])
    run.idle()
    cause = run.watcher.end("a").cause
    assert cause is not None
    assert cause.message == "enough; killed; 1 process is stuck"
    assert dict(cause.context) == {"by": "anna", "stuck": ["17"]}


def test_a_backend_that_raises_in_kill_does_not_keep_the_others_from_being_killed() -> None:
    run = ManualRun({"a": hangs(), "b": hangs()}, backends=("fake", "other"))

    def kill(*_: object) -> None:
        raise OSError("gone")

    run.backends["fake"].kill = kill  # type: ignore[method-assign]
    run.add(job("a"), job("b", backend="other"), job("c", "a"))
    run.scheduler.kill_all("anna", "enough")
    run.idle()
    assert [run.watcher.way(each) for each in "abc"] == ["SQR", "SQRK", "SK"]


@pytest.mark.parametrize("how", ["fails", "times out", "cannot launch"])
def test_fail_fast_ends_the_run_with_its_first_failure(how: str) -> None:
    from backends.fake_outcome import cannot_launch

    outcome = {"fails": fails(1, 1.0), "times out": hangs(), "cannot launch": cannot_launch()}[how]
    run = ManualRun({"a": outcome, "b": hangs()}, limits=Limits(max_parallel=2), fail_fast=True)
    run.add(job("a", timeout_s=1.0), job("b"), job("c"), job("d", "a"))
    run.advance(1.0)
    assert run.watcher.end("d").cause.kind is CauseKind.DEPENDENCY  # type: ignore[union-attr]
    for each in "bc":
        cause = run.watcher.end(each).cause
        assert cause is not None
        assert cause.kind is CauseKind.CANCELLED
        assert cause.message == 'cancelled by fail-fast: job "a" did not pass'
        assert cause.context["by"] == "fail-fast"
    assert run.finish()["passed"] == 0


def test_fail_fast_starts_nothing_in_the_turn_of_the_failure() -> None:
    run = ManualRun({"a": fails(1, 1.0)}, limits=Limits(max_parallel=1), fail_fast=True)
    run.add(job("a"), job("b"))
    run.advance(1.0)
    assert run.started == ["a"]


def test_fail_fast_waits_for_the_last_retry() -> None:
    run = ManualRun({"a": [fails(), passes()]}, fail_fast=True)
    run.add(job("a", retries=1), job("b"))
    assert run.finish()["passed"] == 2


def test_fail_fast_lets_a_person_kill_single_jobs() -> None:
    run = ManualRun({"a": hangs()}, fail_fast=True)
    run.add(job("a"), job("b"))
    run.scheduler.kill(["a"], "anna", "not this one")
    assert run.finish() == {"passed": 1, "failed": 0, "killed": 1, "skipped": 0}


def test_without_fail_fast_the_run_keeps_going() -> None:
    run = ManualRun({"a": fails()}, limits=Limits(max_parallel=1))
    run.add(job("a"), job("b"))
    assert run.finish() == {"passed": 1, "failed": 1, "killed": 0, "skipped": 0}

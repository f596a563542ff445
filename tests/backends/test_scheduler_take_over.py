"""A scheduler that begins where another driver died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from support.manual_run import ManualRun, RecordingBackend, job

from backends.base import Completion
from backends.fake_outcome import fails, passes
from backends.scheduler import LiveAttempt, PastJob, Scheduler
from tasks.errors import InputError
from tasks.events import JobEnd
from tasks.run_context import RunContext
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind, JobStatus

SCHEDULED, QUEUED, RUNNING = JobStatus.SCHEDULED, JobStatus.QUEUED, JobStatus.RUNNING
PASSED, FAILED = JobStatus.PASSED, JobStatus.FAILED
EXIT = Cause(CauseKind.EXIT_CODE, "exited with 1")


class TakenOver(ManualRun):
    """A run whose backend has attempts of an earlier driver; those in ``over`` have ended."""

    def __init__(
        self,
        jobs: Sequence[JobRecord],
        past: Mapping[str, PastJob],
        over: Sequence[Completion] = (),
        **options: Any,
    ) -> None:
        outcomes = options.pop("outcomes", None)
        super().__init__(outcomes, **options)
        self.backend = LateBackend(self, over)
        self.scheduler = Scheduler({}, "fake", self.watcher, timers=self.timers, **options)
        self.watcher.jobs_added(jobs)
        for each in jobs:
            self.watcher.status[each.id] = past[each.id].status if each.id in past else SCHEDULED
        self.scheduler.take_over("fake", self.backend, jobs, past)
        self.idle()

    def ends(self, number: int, attempt: int = 1, status: JobStatus = PASSED) -> None:
        """Have a live attempt end."""
        cause = None if status is PASSED else EXIT
        self.backend._completed([Completion(number, attempt, status, JobEnd(0), cause)])
        self.idle()


class LateBackend(RecordingBackend):
    """Tells what has ended already when it is started, as the local one does."""

    def __init__(self, run: ManualRun, over: Sequence[Completion]) -> None:
        super().__init__(
            RunContext("manual", None), run.backend._policy, timers=run.timers, name="fake"
        )
        self._over = list(over)

    def start(self, completed: Any) -> None:
        super().start(completed)
        if self._over:
            completed(self._over)


def ways(run: ManualRun, *job_ids: str) -> list[str]:
    return [run.watcher.way(each)[1:] for each in job_ids]


def test_jobs_that_ended_before_stay_as_they_are_and_count() -> None:
    """Sabotage: backends/scheduling/job_states.py: bytes(statuses) -> bytes(len(statuses))"""
    jobs = [job("a"), job("b"), job("c", "a"), job("d", "b"), job("e")]
    past = {"a": PastJob(PASSED, 1), "b": PastJob(FAILED, 1), "e": PastJob(PASSED, skipped=True)}
    run = TakenOver(jobs, past)
    assert run.finish() == {"passed": 3, "failed": 1, "killed": 1, "skipped": 1}
    assert run.started == ["c"]
    assert ways(run, "a", "b", "c", "d", "e") == ["", "", "QRP", "K", ""]


def test_a_live_attempt_is_not_launched_again_and_its_end_is_taken() -> None:
    run = TakenOver([job("a"), job("b", "a")], {"a": PastJob(RUNNING, 2, live=LiveAttempt(2))})
    assert run.started == []
    assert run.scheduler.status("a") is RUNNING
    run.ends(1, attempt=2)
    assert run.finish()["passed"] == 2
    assert run.started == ["b"]
    assert run.watcher.end("a").attempt == 2


def test_an_attempt_that_ended_meanwhile_is_told_when_the_backend_starts() -> None:
    over = [Completion(1, 1, FAILED, JobEnd(3), EXIT, 77.0)]
    run = TakenOver([job("a")], {"a": PastJob(RUNNING, 1, live=LiveAttempt(1))}, over)
    assert run.finish()["failed"] == 1
    end = run.watcher.end("a")
    assert (end.at, end.cause, end.end) == (77.0, EXIT, JobEnd(3))


def test_what_was_started_but_not_told_is_told_now_with_the_time_of_its_start() -> None:
    """The old driver died between the launch and the line in the journal."""
    jobs = [job("a"), job("b"), job("c", "a"), job("d")]
    past = {
        "a": PastJob(QUEUED, live=LiveAttempt(1, 55.0)),
        "b": PastJob(SCHEDULED, live=LiveAttempt(1)),
        "c": PastJob(SCHEDULED, live=LiveAttempt(1)),
        # Its first attempt ended and the second began, both untold.
        "d": PastJob(RUNNING, 1, live=LiveAttempt(2)),
    }
    run = TakenOver(jobs, past)
    assert ways(run, "a", "b", "c", "d") == ["R", "QR", "QR", "QR"]
    assert run.watcher.of("a")[0].at == 55.0
    for number in (3, 1, 2):
        run.ends(number)
    run.ends(4, attempt=2)
    assert run.finish()["passed"] == 4
    assert run.started == []


def test_an_attempt_that_was_told_but_never_started_starts_once_under_its_own_number() -> None:
    """Sabotage: backends/scheduling/engine.py: self._table.attempts[number] -= 1 -> pass"""
    run = TakenOver([job("a")], {"a": PastJob(RUNNING, 1)})
    assert run.finish()["passed"] == 1
    assert ways(run, "a") == ["QRP"]
    again = run.watcher.of("a")[0]
    assert again.cause is not None
    assert again.cause.kind is CauseKind.DRIVER_LOST
    assert [(each.number, each.attempt) for each in run.backend.launches] == [(1, 1)]


def test_queued_jobs_start_and_live_ones_take_their_slots() -> None:
    """Sabotage: backends/scheduling/engine.py: self._ready.claim(self._kinds[table.kinds[number]], live.resources) -> pass"""  # noqa: E501
    from backends.scheduling.limits import Limits

    jobs = [job("a"), job("b"), job("c")]
    past = {
        "a": PastJob(RUNNING, 1, live=LiveAttempt(1)),
        "b": PastJob(QUEUED),
        "c": PastJob(QUEUED),
    }
    run = TakenOver(jobs, past, limits=Limits(max_parallel=2))
    assert run.started == ["b"]
    run.ends(1)
    assert run.started == ["b", "c"]
    assert run.finish()["passed"] == 3


def test_ids_that_a_live_attempt_holds_are_given_to_nobody_else() -> None:
    """Sabotage: backends/scheduling/id_pool.py: self.replace(tuple(self._rank)) -> pass"""
    from backends.scheduling.limits import Limits

    gpu = {"resources": {"gpu": 1}}
    jobs = [job("a", **gpu), job("b", **gpu), job("c", **gpu)]
    live = LiveAttempt(1, resources={"gpu": ("0",)})
    limits = Limits(max_parallel=9, resources={"gpu": ("0", "1")})
    run = TakenOver(jobs, {"a": PastJob(RUNNING, 1, live=live)}, limits=limits)
    assert [each.resources for each in run.backend.launches] == [{"gpu": ("1",)}]
    run.ends(1)
    assert [each.resources for each in run.backend.launches] == [{"gpu": ("1",)}, {"gpu": ("0",)}]
    assert run.finish()["passed"] == 3


def test_retries_that_were_used_are_used_and_what_is_left_of_a_delay_is_waited_for() -> None:
    """Sabotage: backends/scheduling/engine.py: for cause, end in each.repeated: -> for cause, end in ():"""  # noqa: E501
    a = job("a", retries=1, retry_delay_s=10.0)
    run = ManualRun()
    past = PastJob(QUEUED, 1, at=run.clock.time() - 4.0, repeated=[(EXIT, JobEnd(1))])
    run = TakenOver([a], {"a": past}, outcomes={"a": fails(1)})
    run.advance(5.5)
    assert run.started == []
    run.advance(1.0)
    assert [launch.attempt for launch in run.backend.launches] == [2]
    assert run.finish()["failed"] == 1
    assert len(run.backend.launches) == 1


def test_jobs_that_nobody_has_told_of_run_as_usual() -> None:
    run = TakenOver([job("a"), job("b", "a")], {})
    assert run.finish()["passed"] == 2
    assert ways(run, "a", "b") == ["QRP", "QRP"]


def test_a_kill_reaches_live_attempts_and_a_failure_before_counts_for_fail_fast() -> None:
    live = PastJob(RUNNING, 1, live=LiveAttempt(1))
    run = TakenOver([job("a"), job("b")], {"a": live, "b": PastJob(FAILED, 1)}, fail_fast=True)
    assert run.backend.kills == [([1], None)]


def test_bad_jobs_are_refused_before_the_backend_starts() -> None:
    with pytest.raises(InputError):
        TakenOver([job("a", "nobody")], {})


def test_launches_know_their_jobs_by_the_numbers_of_the_old_driver() -> None:
    run = TakenOver([job("a"), job("b")], {"a": PastJob(PASSED, 1)}, outcomes={"b": passes(1.0)})
    assert [(each.number, each.job.id) for each in run.backend.launches] == [(2, "b")]

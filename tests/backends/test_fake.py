"""The fake backend by itself; ``test_contract`` holds it against what all promise."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from support.manual_clock import ManualClock
from support.waiting import wait_for

from backends.base import Completion, Launch
from backends.fake import FakeBackend
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
from backends.fake_policy import DeclaredPolicy, RandomPolicy, RecordedDurations
from backends.timers import Timers
from tasks.events import JobEnd
from tasks.run_context import RunContext
from tasks.spec import JobRecord
from tasks.status import CauseKind, JobStatus


class Bench:
    """A fake backend on a clock moved by hand, and what it completed."""

    def __init__(self, outcome: FakeOutcome, grace_s: float | None = None) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        context = RunContext("r", None, grace_s=grace_s)
        self.backend = FakeBackend(context, lambda launch: outcome, timers=self.timers)
        self.batches: list[list[Completion]] = []
        self.backend.start(lambda batch: self.batches.append(list(batch)))

    def launch(self, *numbers: int, **rest: object) -> None:
        self.backend.launch([Launch(n, JobRecord(f"j{n}", "x", (), rest), 1) for n in numbers])

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.timers.run_due()

    @property
    def completions(self) -> list[Completion]:
        return [completion for batch in self.batches for completion in batch]


@pytest.mark.parametrize(
    ("outcome", "status", "kind"),
    [
        (passes(), JobStatus.PASSED, None),
        (fails(3), JobStatus.FAILED, CauseKind.EXIT_CODE),
        (is_signalled(11), JobStatus.FAILED, CauseKind.SIGNAL),
        (runs_out_of_memory(), JobStatus.FAILED, CauseKind.OUT_OF_MEMORY),
        (cannot_launch(), JobStatus.FAILED, CauseKind.LAUNCH_ERROR),
        (loses_its_node(), JobStatus.KILLED, CauseKind.LOST_NODE),
        (is_preempted(), JobStatus.KILLED, CauseKind.PREEMPTED),
    ],
)
def test_each_outcome_completes_with_its_status_and_cause(
    outcome: FakeOutcome, status: JobStatus, kind: CauseKind | None
) -> None:
    bench = Bench(outcome)
    bench.launch(1)
    (completion,) = bench.completions
    assert completion.status is status
    assert (completion.cause and completion.cause.kind) is kind


def test_attempts_that_end_together_complete_in_one_batch_in_the_order_of_launches() -> None:
    bench = Bench(passes(2.0))
    bench.launch(3, 1, 2)
    bench.advance(1.9)
    assert bench.batches == []
    bench.advance(0.1)
    assert [[each.number for each in batch] for batch in bench.batches] == [[3, 1, 2]]
    assert bench.completions[0].end == JobEnd(exit_code=0, runtime_s=2.0)


def test_a_time_limit_ends_what_takes_longer() -> None:
    bench = Bench(passes(10.0))
    bench.launch(1, timeout_s=4.0)
    bench.advance(4.0)
    (completion,) = bench.completions
    assert completion.status is JobStatus.KILLED
    assert completion.cause is not None
    assert completion.cause.kind is CauseKind.TIMEOUT
    assert completion.end == JobEnd(signal=15, runtime_s=4.0)


def test_what_ignores_sigterm_outlives_its_time_limit_by_the_grace() -> None:
    bench = Bench(hangs(ignores_sigterm=True))
    bench.launch(1, timeout_s=4.0, grace_s=2.0)
    bench.advance(5.9)
    assert bench.completions == []
    bench.advance(0.1)
    assert bench.completions[0].end == JobEnd(signal=9, runtime_s=6.0)


def test_a_kill_ends_at_once_what_obeys_and_has_no_cause() -> None:
    bench = Bench(hangs())
    bench.launch(1, 2)
    bench.advance(1.0)
    bench.backend.kill([2, 77])
    bench.timers.run_due()
    (completion,) = bench.completions
    assert (completion.number, completion.status, completion.cause) == (2, JobStatus.KILLED, None)


@pytest.mark.parametrize(
    ("run_grace_s", "given_s", "gone_after_s"),
    [(None, None, 3.0), (1.0, None, 1.0), (1.0, 2.0, 2.0)],
)
def test_the_grace_is_the_given_one_or_the_runs_or_the_jobs(
    run_grace_s: float | None, given_s: float | None, gone_after_s: float
) -> None:
    bench = Bench(hangs(ignores_sigterm=True), run_grace_s)
    bench.launch(1, grace_s=3.0)
    bench.backend.kill([1], given_s)
    bench.advance(gone_after_s - 0.1)
    assert bench.completions == []
    bench.advance(0.1)
    assert len(bench.completions) == 1


def test_a_second_kill_may_only_shorten_the_grace() -> None:
    bench = Bench(hangs(ignores_sigterm=True))
    bench.launch(1)
    bench.backend.kill([1], 10.0)
    bench.backend.kill([1], 60.0)
    bench.advance(4.0)
    bench.backend.kill([1], 1.0)
    bench.advance(1.0)
    assert len(bench.completions) == 1
    bench.advance(100.0)
    assert len(bench.completions) == 1


def test_a_kill_before_the_time_limit_is_a_kill_and_one_after_it_a_timeout() -> None:
    early, late = Bench(hangs(True)), Bench(hangs(True))
    for bench, wait_s in ((early, 1.0), (late, 5.5)):
        bench.launch(1, timeout_s=5.0, grace_s=10.0)
        bench.advance(wait_s)
        bench.backend.kill([1], 1.0)
        bench.advance(1.0)
    assert early.completions[0].cause is None
    assert late.completions[0].cause is not None
    assert late.completions[0].cause.kind is CauseKind.TIMEOUT


def test_what_ends_by_itself_within_the_grace_keeps_its_end() -> None:
    bench = Bench(FakeOutcome(2.0, ignores_sigterm=True))
    bench.launch(1)
    bench.backend.kill([1], 5.0)
    bench.advance(2.0)
    assert bench.completions[0].status is JobStatus.PASSED


def test_close_ends_all_that_runs_before_it_returns_and_may_come_twice() -> None:
    bench = Bench(hangs(ignores_sigterm=True))
    bench.launch(1, 2)
    bench.backend.close()
    bench.backend.close()
    assert [each.status for each in bench.completions] == [JobStatus.KILLED] * 2
    bench.advance(100.0)
    assert len(bench.completions) == 2


def test_a_declared_policy_gives_one_outcome_for_each_attempt() -> None:
    policy = DeclaredPolicy({"a": [fails(1), passes()], "b": hangs()}, default=fails(9))

    def outcome(job_id: str, attempt: int) -> FakeOutcome:
        return policy(Launch(1, JobRecord(job_id, "x"), attempt))

    assert [outcome("a", attempt) for attempt in (1, 2, 3)] == [fails(1), passes(), passes()]
    assert outcome("b", 5) == hangs()
    assert outcome("c", 1) == fails(9)


def test_a_random_policy_depends_on_seed_job_and_attempt_but_not_on_the_order() -> None:
    launches = [
        Launch(n, JobRecord(f"j{n}", "x"), attempt) for n in range(200) for attempt in (1, 2)
    ]
    policy = RandomPolicy(7, (1.0, 5.0), failing=0.3, hanging=0.1, exit_codes=(3, 4))
    forwards = [policy(launch) for launch in launches]
    backwards = [policy(launch) for launch in reversed(launches)]
    assert forwards == backwards[::-1]
    assert forwards != [RandomPolicy(8, (1.0, 5.0), 0.3, 0.1, (3, 4))(each) for each in launches]
    failed = [each for each in forwards if each.status is JobStatus.FAILED]
    assert 80 < len(failed) < 160
    assert {each.exit_code for each in failed} == {3, 4}
    assert all(1.0 <= each.duration_s <= 5.0 for each in failed)
    assert any(each == hangs() for each in forwards)


def test_recorded_durations_are_replayed() -> None:
    policy = RecordedDurations({"a": 7.5}, default_s=1.0)
    assert policy(Launch(1, JobRecord("a", "x"), 1)) == passes(7.5)
    assert policy(Launch(1, JobRecord("b", "x"), 1)) == passes(1.0)


def test_without_timers_it_runs_in_a_thread_of_its_own_that_ends_with_close() -> None:
    done: list[Completion] = []
    threads: set[str] = set()

    def completed(batch: Sequence[Completion]) -> None:
        threads.add(threading.current_thread().name)
        done.extend(batch)

    policy = DeclaredPolicy({"slow": hangs()}, default=passes(0.01))
    backend = FakeBackend(RunContext("r", None), policy)
    backend.start(completed)
    backend.launch([Launch(1, JobRecord("a", "x"), 1), Launch(2, JobRecord("slow", "x"), 1)])
    wait_for(lambda: len(done) == 1, "the first job's end")
    backend.kill([2])
    wait_for(lambda: len(done) == 2, "the end of the killed job")
    assert threads == {"holdfast-fake"}
    backend.close()
    assert "holdfast-fake" not in {thread.name for thread in threading.enumerate()}

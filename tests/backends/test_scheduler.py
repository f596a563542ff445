"""What the scheduler does with a run as a whole."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from support.manual_run import ManualRun, RecordingWatcher, job

from backends.base import Backend, Completion, Launch
from backends.fake import FakeBackend
from backends.fake_outcome import cannot_launch, fails, hangs, passes
from backends.scheduler import Limits, Scheduler, StuckError
from backends.scheduling.ready_queue import ReadyQueue
from backends.timers import Timers
from tasks.clock import VirtualClock
from tasks.errors import InputError, StateError, UnknownError
from tasks.events import JobChanged, JobEnd
from tasks.run_context import RunContext
from tasks.spec import JobRecord
from tasks.status import CauseKind, JobStatus


def test_a_job_goes_from_scheduled_through_queued_and_running_to_passed() -> None:
    run = ManualRun()
    run.add(job("a"))
    assert run.watcher.way("a") == "SQR"
    run.advance(1.0)
    assert run.watcher.way("a") == "SQRP"


def test_events_carry_time_attempt_backend_and_end() -> None:
    run = ManualRun({"a": passes(2.5)})
    began = run.clock.time()
    run.add(job("a"))
    run.advance(2.5)
    queued, started, ended = run.watcher.of("a")
    assert (queued.at, queued.attempt, queued.backend) == (began, 0, "fake")
    assert (started.at, started.attempt) == (began, 1)
    assert (ended.at, ended.attempt, ended.cause) == (began + 2.5, 1, None)
    assert ended.end == JobEnd(exit_code=0, runtime_s=2.5)


def test_the_time_that_a_backend_gives_is_the_time_of_the_end() -> None:
    class Late(FakeBackend):
        def launch(self, launches: Sequence[Launch]) -> None:
            self._completed(
                [
                    Completion(x.number, x.attempt, JobStatus.PASSED, JobEnd(), None, 123.0)
                    for x in launches
                ]
            )

    watcher = RecordingWatcher()
    timers = Timers(VirtualClock())
    backend = Late(RunContext("r", None), timers=timers)
    scheduler = Scheduler({"fake": backend}, "fake", watcher, timers=timers)
    scheduler.add([job("a")])
    scheduler.run_until_idle()
    assert watcher.end("a").at == 123.0


def test_a_failure_is_recorded_with_its_cause_and_others_go_on() -> None:
    run = ManualRun({"a": fails(3, 1.0)})
    run.add(job("a"), job("b"))
    assert run.finish() == {"passed": 1, "failed": 1, "killed": 0, "skipped": 0}
    end = run.watcher.end("a")
    assert end.after is JobStatus.FAILED
    assert end.cause is not None
    assert end.cause.kind is CauseKind.EXIT_CODE
    assert end.end is not None
    assert end.end.exit_code == 3


def test_a_launch_error_is_that_jobs_error() -> None:
    run = ManualRun({"a": cannot_launch("no such file")})
    run.add(job("a"), job("b"))
    run.finish()
    cause = run.watcher.end("a").cause
    assert cause is not None
    assert (cause.kind, cause.message) == (CauseKind.LAUNCH_ERROR, "no such file")
    assert run.watcher.way("b") == "SQRP"


def test_everything_that_can_start_is_launched_in_one_batch_before_the_watcher_is_told() -> None:
    order: list[str] = []

    class Watcher(RecordingWatcher):
        def jobs_changed(self, events: Sequence[JobChanged]) -> None:
            super().jobs_changed(events)
            order.append("told")

    run = ManualRun()
    launch = run.backend.launch
    run.backend.launch = lambda launches: (order.append("launched"), launch(launches))  # type: ignore[assignment,func-returns-value,return-value]
    run.scheduler._news.watcher = Watcher()
    run.add(*(job(f"j{i}") for i in range(50)))
    assert order == ["launched", "told"]
    assert run.backend.batches == [[f"j{i}" for i in range(50)]]


def test_a_watcher_sees_jobs_before_their_changes_and_large_batches_in_slices() -> None:
    told: list[int] = []

    class Watcher(RecordingWatcher):
        def jobs_changed(self, events: Sequence[JobChanged]) -> None:
            assert len(self.status) == 2_500
            told.append(len(events))
            super().jobs_changed(events)

    timers = Timers(VirtualClock())
    watcher = Watcher()
    backend = FakeBackend(RunContext("r", None), timers=timers)
    scheduler = Scheduler({"fake": backend}, "fake", watcher, timers=timers)
    scheduler.add([job(f"j{i}") for i in range(2_500)])
    scheduler.finish()
    scheduler.run()
    assert max(told) <= 1_000
    assert set(watcher.status.values()) == {JobStatus.PASSED}


def test_jobs_can_be_added_while_others_run_and_may_need_ended_ones() -> None:
    run = ManualRun({"bad": fails()})
    run.add(job("a"), job("bad"))
    run.advance(1.0)
    run.add(job("b", "a"), job("c", "bad"))
    assert run.watcher.way("b") == "SQR"
    assert run.watcher.way("c") == "SK"
    assert run.finish() == {"passed": 2, "failed": 1, "killed": 1, "skipped": 0}


def test_a_run_without_jobs_ends_when_it_is_finished() -> None:
    run = ManualRun()
    run.scheduler.finish()
    assert run.scheduler.run() == {"passed": 0, "failed": 0, "killed": 0, "skipped": 0}


def test_a_run_that_is_not_finished_waits_for_more_jobs() -> None:
    run = ManualRun()
    run.add(job("a"))
    run.advance(5.0)
    run.add(job("b"))
    run.advance(5.0)
    assert run.watcher.way("b") == "SQRP"


def test_after_finish_no_job_can_be_added() -> None:
    run = ManualRun()
    run.scheduler.finish()
    with pytest.raises(StateError, match="no job can be added"):
        run.scheduler.add([job("a")])


def test_spared_jobs_pass_without_running_and_free_those_that_need_them() -> None:
    run = ManualRun()
    run.add(job("b", "a"), job("a"), job("c", "b"), passed={"a", "c", "unheard-of"})
    assert run.watcher.way("a") == "SP"
    assert run.watcher.way("c") == "SP"
    assert run.watcher.way("b") == "SQR"
    end = run.watcher.end("a")
    assert end.end == JobEnd(skipped=True)
    assert end.attempt == 0
    assert run.finish() == {"passed": 3, "failed": 0, "killed": 0, "skipped": 2}


def test_a_held_job_waits_for_its_release_and_for_its_needs() -> None:
    run = ManualRun()
    run.add(job("a"), job("b"), job("c", "b"), held=["a", "c"])
    assert run.watcher.way("a") == "S"
    run.scheduler.release("c")
    run.idle()
    assert run.watcher.way("c") == "S", "its need still runs"
    run.scheduler.release("a")
    run.idle()
    assert run.watcher.way("a") == "SQR"
    run.advance(1.0)
    assert run.watcher.way("c") == "SQR"


def test_a_second_release_does_not_stand_for_a_need() -> None:
    run = ManualRun()
    run.add(job("a"), job("b", "a"), held=["b"])
    run.scheduler.release("b")
    run.scheduler.release("b")
    run.idle()
    assert run.watcher.way("b") == "S"


def test_a_held_job_that_is_released_with_a_cause_ends_with_it_and_its_dependents_too() -> None:
    from tasks.status import Cause

    run = ManualRun()
    run.add(job("a"), job("b", "a"), held=["a"])
    cause = Cause(CauseKind.DEPENDENCY, 'the task "load" failed')
    run.scheduler.release("a", cause)
    run.idle()
    assert run.watcher.end("a").cause is cause
    assert run.watcher.way("b") == "SK"


def test_a_run_with_a_held_job_waits_for_its_release() -> None:
    run = ManualRun()
    run.add(job("a"), held=["a"])
    run.scheduler.finish()
    run.idle()
    assert [str(each) for each in run.scheduler.waiting_for()] == [
        "1 job waits for something outside of the run"
    ]
    run.scheduler.release("a")
    assert run.finish()["passed"] == 1


def test_bad_jobs_are_refused_all_problems_at_once_and_none_is_added() -> None:
    run = ManualRun(limits=Limits(resources={"licence": 2}))
    run.add(job("old"))
    with pytest.raises(InputError) as error:
        run.scheduler.add(
            [
                job("good"),
                job("old"),
                job("a", "nowhere"),
                job("b", backend="slurmm"),
                job("c", resources={"licence": 3}),
                job("d", resources={"license": 1}),
                job("e", interactive=True),
                job("x", "y"),
                job("y", "x"),
            ]
        )
    assert error.value.problems == (
        'job id "old" is used twice; ids must differ',
        'job "a" needs "nowhere", which does not exist; add it or remove the need',
        'dependency cycle: x -> y -> x; remove one of these "needs"',
        'job "c" asks for 3 "licence", but there are only 2; ask for less or raise the limit',
        'job "d" asks for 1 "license": there is no resource "license" (known: licence); '
        'did you mean "licence"?',
        'job "b" asks for backend "slurmm", which this run does not have (fake)',
        'job "e": backend "fake" cannot run interactive jobs; use "local"',
    )
    run.idle()
    assert run.watcher.added == ["old"]
    run.add(job("good"))
    assert run.watcher.way("good") == "SQR"


def test_a_run_mixes_backends_and_launches_one_batch_on_each() -> None:
    run = ManualRun(backends=("fake", "other"))
    run.add(job("a"), job("b", backend="other"), job("c"), job("d", backend="other"))
    assert run.backends["fake"].batches == [["a", "c"]]
    assert run.backends["other"].batches == [["b", "d"]]
    run.advance(1.0)
    assert [run.watcher.end(each).backend for each in "abcd"] == ["fake", "other"] * 2


def test_a_backend_can_be_added_while_the_run_goes_on() -> None:
    run = ManualRun()
    run.add(job("a"))
    late = FakeBackend(RunContext("r", None), timers=run.timers)
    run.scheduler.add_backend("late", late)
    run.add(job("b", backend="late"))
    assert run.watcher.way("b") == "SQRP"


def test_a_job_for_a_default_backend_that_does_not_exist_is_refused() -> None:
    scheduler = Scheduler({}, "fake", None, timers=Timers(VirtualClock()))
    with pytest.raises(InputError, match='asks for backend "fake", which this run does not have'):
        scheduler.add([job("a")])


def test_job_numbers_count_from_one_in_the_order_of_submission() -> None:
    run = ManualRun()
    run.add(job("z", weight=1), job("a", weight=2))
    run.add(job("m"))
    assert {launch.job.id: launch.number for launch in run.backend.launches} == {
        "z": 1,
        "a": 2,
        "m": 3,
    }


def test_a_pause_starts_nothing_and_lets_running_jobs_finish() -> None:
    run = ManualRun()
    run.add(job("a"), job("b", "a"))
    run.scheduler.pause("anna")
    run.scheduler.pause("again")
    run.advance(1.0)
    assert run.watcher.way("a") == "SQRP"
    assert run.watcher.way("b") == "SQ"
    assert [str(each) for each in run.scheduler.waiting_for()] == ["1 job waits for unpause"]
    run.scheduler.finish()
    run.advance(100.0)
    assert run.watcher.way("b") == "SQ", "a paused run does not end by itself"
    run.scheduler.unpause("anna")
    run.idle()
    assert run.watcher.way("b") == "SQR"
    assert [(type(event).__name__, event.by) for event in run.watcher.others] == [
        ("RunPaused", "anna"),
        ("RunUnpaused", "anna"),
    ]


def test_status_and_counts_are_known_at_any_time() -> None:
    run = ManualRun(limits=Limits(max_parallel=1))
    run.scheduler.add([job("a"), job("b"), job("c", "a")])
    assert run.scheduler.status("a") is JobStatus.SCHEDULED
    run.idle()
    assert run.scheduler.status("a") is JobStatus.RUNNING
    assert run.scheduler.counts() == {
        "passed": 0,
        "failed": 0,
        "killed": 0,
        "skipped": 0,
        "scheduled": 1,
        "queued": 1,
        "running": 1,
    }
    with pytest.raises(UnknownError, match='no job "d"'):
        run.scheduler.status("d")


class _Raising(FakeBackend):
    """Launches the first job of a batch and then breaks its contract."""

    def launch(self, launches: Sequence[Launch]) -> None:
        super().launch(launches[:1])
        raise OSError("the socket is gone")


def test_a_backend_that_raises_in_launch_fails_those_jobs_and_kills_what_it_had_launched() -> None:
    timers = Timers(VirtualClock())
    watcher = RecordingWatcher()
    context = RunContext("r", None)
    raising = _Raising(context, lambda launch: hangs(), timers=timers)
    good = FakeBackend(context, timers=timers)
    scheduler = Scheduler({"good": good, "bad": raising}, "good", watcher, timers=timers)
    scheduler.add(
        [job("a", backend="bad"), job("b", backend="bad"), job("c"), job("d", "a"), job("e", "c")]
    )
    scheduler.finish()
    assert scheduler.run() == {"passed": 2, "failed": 2, "killed": 1, "skipped": 0}
    cause = watcher.end("a").cause
    assert cause is not None
    assert cause.kind is CauseKind.LAUNCH_ERROR
    assert cause.message == 'backend "bad" could not launch it: OSError: the socket is gone'
    assert not raising._running


@pytest.mark.parametrize(
    "wrong",
    [
        Completion(1, 1, JobStatus.PASSED, JobEnd()),  # it has ended already
        Completion(2, 7, JobStatus.PASSED, JobEnd()),  # no such attempt
        Completion(99, 1, JobStatus.PASSED, JobEnd()),  # no such job
        Completion(0, 1, JobStatus.PASSED, JobEnd()),
        Completion(-1, 1, JobStatus.PASSED, JobEnd()),
    ],
)
def test_a_completion_of_nothing_that_runs_is_ignored(
    wrong: Completion, caplog: pytest.LogCaptureFixture
) -> None:
    run = ManualRun({"a": passes(), "b": hangs()})
    run.add(job("a"), job("b"))
    with caplog.at_level(logging.WARNING, "holdfast.scheduler"):
        run.backend._completed([wrong])
        run.idle()
    assert run.watcher.way("a") == "SQRP"
    assert run.watcher.way("b") == "SQR"
    assert "no such attempt runs" in caplog.text


def test_a_run_that_can_never_move_again_ends_and_says_that_it_is_a_bug(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sabotage, here on purpose: what an attempt held is not handed back."""
    monkeypatch.setattr(ReadyQueue, "give_back", lambda *_: None)
    run = ManualRun(limits=Limits(max_parallel=1))
    run.add(job("a"), job("b"), job("c", "b"))
    with pytest.raises(StuckError, match=r'stuck, this is a bug: .* 2 jobs .*"b", "c"') as error:
        run.advance(1.0)
    assert error.value.exit_code == 70
    cause = run.watcher.end("c").cause
    assert cause is not None
    assert cause.message.startswith("stuck, this is a bug")
    assert run.is_over


def test_a_watcher_may_call_the_scheduler() -> None:
    class Stopper(RecordingWatcher):
        scheduler: Scheduler

        def jobs_changed(self, events: Sequence[JobChanged]) -> None:
            super().jobs_changed(events)
            if any(event.after is JobStatus.PASSED for event in events):
                self.scheduler.kill_all("watcher", "seen enough")

    timers = Timers(VirtualClock())
    watcher = Stopper()
    backend = FakeBackend(
        RunContext("r", None), lambda x: passes() if x.job.id == "a" else hangs(), timers=timers
    )
    watcher.scheduler = Scheduler({"fake": backend}, "fake", watcher, timers=timers)
    watcher.scheduler.add([job("a"), job("b")])
    watcher.scheduler.finish()
    assert watcher.scheduler.run()["killed"] == 1


def test_what_a_watcher_raises_ends_the_run() -> None:
    class Broken(RecordingWatcher):
        def jobs_added(self, jobs: Sequence[JobRecord]) -> None:
            raise RuntimeError("disk full")

    timers = Timers(VirtualClock())
    backend = FakeBackend(RunContext("r", None), timers=timers)
    scheduler = Scheduler({"fake": backend}, "fake", Broken(), timers=timers)
    scheduler.add([job("a")])
    with pytest.raises(RuntimeError, match="disk full"):
        scheduler.run()


def test_without_a_watcher_the_run_is_the_same() -> None:
    timers = Timers(VirtualClock())
    backend: Backend = FakeBackend(
        RunContext("r", None), lambda x: fails() if x.job.id == "b" else passes(1), timers=timers
    )
    scheduler = Scheduler({"fake": backend}, "fake", None, timers=timers)
    scheduler.add([job("a"), job("b"), job("c", "b"), job("d", "a")])
    scheduler.finish()
    assert scheduler.run() == {"passed": 2, "failed": 1, "killed": 1, "skipped": 0}


def test_on_a_virtual_clock_days_pass_at_once() -> None:
    clock = VirtualClock()
    timers = Timers(clock)
    backend = FakeBackend(RunContext("r", None), lambda _: passes(86_400), timers=timers)
    scheduler = Scheduler({"fake": backend}, "fake", timers=timers, limits=Limits(max_parallel=2))
    scheduler.add([job(f"j{i}") for i in range(10)])
    scheduler.finish()
    scheduler.run()
    assert clock.monotonic() == 5 * 86_400

"""One broken observer harms neither the run nor the other observers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from support.job_events import PASSED, START, Q, R, S, a_job, way
from support.manual_clock import ManualClock

from observers.base import Observer
from observers.dispatch import HOOKS, EssentialObserverError, Observers
from tasks.errors import HoldfastError
from tasks.events import (
    Adopted,
    JobChanged,
    KeeperLost,
    KillRequested,
    ObserverFailed,
    RunEnded,
    RunPaused,
    RunStarted,
    RunUnpaused,
)
from tasks.status import RunStatus

EVENTS: dict[str, Any] = {
    "run_started": RunStarted(START, {}),
    "jobs_added": [a_job()],
    "jobs_changed": way(a_job(), S, Q, R),
    "kill_requested": KillRequested(START, "me", "why not"),
    "run_paused": RunPaused(START),
    "run_unpaused": RunUnpaused(START),
    "keeper_lost": KeeperLost(START, "gone"),
    "adopted": Adopted(START, ["test-1"]),
    "run_ended": RunEnded(START, RunStatus.COMPLETED, {}),
}


class Recorder(Observer):
    """Keeps what it is told, with the hook's name; raises in the hooks it is asked to."""

    def __init__(self, name: str = "recorder", raises_in: Sequence[str] = ()) -> None:
        self._name = name
        self._raises_in = raises_in
        self.calls: list[tuple[str, object]] = []
        self.closed = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def hooks(self) -> list[str]:
        return [hook for hook, _ in self.calls]

    def close(self) -> None:
        self.closed += 1
        if "close" in self._raises_in:
            raise ValueError("broken close")


def _recording(hook: str) -> Any:
    def method(self: Recorder, argument: object) -> None:
        self.calls.append((hook, argument))
        if hook in self._raises_in:
            raise ValueError(f"broken {hook}")

    return method


for _hook in HOOKS:
    setattr(Recorder, _hook, _recording(_hook))


class Essential(Recorder):
    essential = True


def tell(observers: Observers, hook: str) -> None:
    getattr(observers, hook)(EVENTS[hook])


@pytest.mark.parametrize("hook", EVENTS)
def test_every_event_reaches_every_observer_as_it_is(hook: str) -> None:
    first, second = Recorder("first"), Recorder("second")
    tell(Observers([first, second]), hook)
    assert first.calls == second.calls == [(hook, EVENTS[hook])]
    assert first.calls[0][1] is EVENTS[hook]


def test_every_hook_of_the_base_is_forwarded() -> None:
    methods = {name for name, value in vars(Observer).items() if callable(value)}
    assert methods - {"close"} == set(HOOKS) == {*EVENTS, "observer_failed"}


def test_observers_are_called_in_the_order_in_which_they_were_given() -> None:
    order: list[str] = []

    class InOrder(Observer):
        def __init__(self, name: str) -> None:
            self._name = name

        @property
        def name(self) -> str:
            return self._name

        def jobs_changed(self, events: Sequence[JobChanged]) -> None:
            order.append(self._name)

    tell(Observers([InOrder("b"), InOrder("a"), InOrder("c")]), "jobs_changed")
    assert order == ["b", "a", "c"]


def test_a_hook_that_is_not_overridden_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Observer, events: Sequence[JobChanged]) -> None:
        raise AssertionError("the base's method was called")

    monkeypatch.setattr(Observer, "jobs_changed", never)

    class OnlyEnds(Observer):
        def run_ended(self, event: RunEnded) -> None:
            pass

    observers = Observers([OnlyEnds()])
    tell(observers, "jobs_changed")
    assert observers.failed == {}


@pytest.mark.parametrize("hook", EVENTS)
def test_an_observer_that_raises_is_switched_off_and_the_others_go_on(hook: str) -> None:
    broken, whole = Recorder("broken", raises_in=[hook]), Recorder("whole")
    observers = Observers([broken, whole], ManualClock(START))
    tell(observers, hook)
    tell(observers, "run_paused")
    told = ObserverFailed(START, "broken", f"ValueError: broken {hook}")
    assert broken.hooks == [hook]
    assert whole.calls == [
        (hook, EVENTS[hook]),
        ("observer_failed", told),
        ("run_paused", EVENTS["run_paused"]),
    ]
    assert observers.failed == {"broken": f"ValueError: broken {hook}"}


def test_a_failure_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    observers = Observers([Recorder("broken", raises_in=["jobs_changed", "close"])])
    with caplog.at_level(logging.ERROR):
        tell(observers, "jobs_changed")
        tell(observers, "jobs_changed")
        observers.close()
    (record,) = caplog.records
    assert record.getMessage() == ('observer "broken" failed in jobs_changed and is switched off')
    assert record.exc_info is not None
    assert "ValueError: broken jobs_changed" in caplog.text


def test_the_others_hear_of_a_failure_after_the_event_that_caused_it() -> None:
    # The journal's order is the order of events: it must have the batch before the failure.
    journal, broken, last = Recorder("journal"), Recorder("b", ["jobs_changed"]), Recorder("last")
    tell(Observers([journal, broken, last]), "jobs_changed")
    assert journal.hooks == last.hooks == ["jobs_changed", "observer_failed"]


def test_an_observer_that_fails_when_told_of_a_failure_is_switched_off_too() -> None:
    observers = Observers(
        [Recorder("a", ["jobs_changed"]), Recorder("b", ["observer_failed"]), whole := Recorder()]
    )
    tell(observers, "jobs_changed")
    failures = [event.observer for hook, event in whole.calls if hook == "observer_failed"]  # type: ignore[attr-defined]
    assert failures == ["a", "b"]
    assert list(observers.failed) == ["a", "b"]


def test_observers_of_the_same_name_are_told_apart() -> None:
    observers = Observers([Recorder("twin"), broken := Recorder("twin", ["jobs_changed"])])
    tell(observers, "jobs_changed")
    assert list(observers.failed) == ["twin 2"]
    tell(observers, "run_paused")
    assert broken.hooks == ["jobs_changed"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_asks_the_process_to_stop_is_not_caught(error: type[BaseException]) -> None:
    class Interrupted(Observer):
        def jobs_changed(self, events: Sequence[JobChanged]) -> None:
            raise error

    observers = Observers([Interrupted()])
    with pytest.raises(error):
        tell(observers, "jobs_changed")
    assert observers.failed == {}


def test_every_observer_is_closed_once_whatever_the_others_do() -> None:
    recorders = [
        Recorder("a", ["close"]),
        Recorder("b", ["jobs_changed"]),
        Recorder("c"),
    ]
    observers = Observers(recorders)
    tell(observers, "jobs_changed")
    observers.close()
    observers.close()
    tell(observers, "run_paused")
    assert [recorder.closed for recorder in recorders] == [1, 1, 1]
    assert list(observers.failed) == ["b", "a"]
    assert all("run_paused" not in recorder.hooks for recorder in recorders)


def test_the_failure_of_an_essential_observer_stops_the_run_once() -> None:
    observers = Observers(
        [Essential("journal", ["jobs_changed"]), Essential("list", ["run_paused"])]
    )
    stops: list[HoldfastError] = []
    observers.when_essential_fails(stops.append)
    tell(observers, "jobs_changed")
    tell(observers, "run_paused")
    (error,) = stops
    assert isinstance(error, EssentialObserverError)
    assert error.exit_code == 70
    assert str(error).startswith(
        'observer "journal" failed: ValueError: broken jobs_changed; the run cannot go on'
    )
    assert observers.essential_failure is error
    assert list(observers.failed) == ["journal", "list"]


def test_an_essential_failure_before_anybody_listens_is_told_when_somebody_does() -> None:
    observers = Observers([Essential("journal", ["run_started"])])
    tell(observers, "run_started")
    stops: list[HoldfastError] = []
    observers.when_essential_fails(stops.append)
    assert stops == [observers.essential_failure]


def test_an_essential_observers_own_error_is_handed_on_as_it_is() -> None:
    full = HoldfastError("the disk is full")

    class Full(Observer):
        essential = True

        def run_started(self, event: RunStarted) -> None:
            raise full

    observers = Observers([Full()])
    tell(observers, "run_started")
    assert observers.essential_failure is full


def test_the_failure_of_an_observer_that_is_not_essential_stops_nothing() -> None:
    observers = Observers([Recorder("display", ["jobs_changed"])])
    stops: list[HoldfastError] = []
    observers.when_essential_fails(stops.append)
    tell(observers, "jobs_changed")
    assert stops == []
    assert observers.essential_failure is None


def test_stopping_the_run_may_come_back_with_an_event_at_once() -> None:
    # Sabotage: a Lock in place of the RLock hangs here.
    observers = Observers([Essential("journal", ["jobs_changed"]), whole := Recorder("whole")])
    kill = KillRequested(START, "holdfast", "the journal failed")
    observers.when_essential_fails(lambda error: observers.kill_requested(kill))
    tell(observers, "jobs_changed")
    assert set(whole.hooks) == {"jobs_changed", "kill_requested", "observer_failed"}


def test_events_from_several_threads_reach_an_observer_one_at_a_time() -> None:
    inside = threading.Semaphore(1)
    overlaps: list[str] = []

    class Alone(Observer):
        def jobs_changed(self, events: Sequence[JobChanged]) -> None:
            if not inside.acquire(blocking=False):
                overlaps.append("jobs_changed")
                return
            threading.Event().wait(0.0005)  # lets other threads run
            inside.release()

    observers = Observers([Alone()])
    batch = way(a_job(), S, Q, R, PASSED)
    threads = [
        threading.Thread(target=lambda: [observers.jobs_changed(batch) for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []
    assert observers.failed == {}

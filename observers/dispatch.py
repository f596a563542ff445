"""Forwards what happens in a run to every observer, so that a broken one harms nobody."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from observers.base import Observer
from tasks.clock import Clock, SystemClock
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
from tasks.spec import JobRecord

HOOKS = (
    "run_started",
    "jobs_added",
    "jobs_changed",
    "kill_requested",
    "run_paused",
    "run_unpaused",
    "keeper_lost",
    "adopted",
    "observer_failed",
    "run_ended",
)
"""Every method of an observer that tells of an event; ``close`` is no event."""

_log = logging.getLogger(__name__)


class EssentialObserverError(HoldfastError):
    """An observer that a run cannot do without failed for a reason of its own."""


class Observers:
    """All observers of one run, called as one.

    Each event reaches the observers in the order in which they were given; only hooks that an
    observer overrides are called.  An observer that raises is logged once with its traceback,
    switched off and kept in ``failed``; the others are told when they have all seen the event
    that it stumbled over.  Methods may be called from any thread, one event at a time.

    The failure of an ``essential`` observer calls what ``when_essential_fails`` was given.
    """

    def __init__(self, observers: Iterable[Observer], clock: Clock | None = None) -> None:
        self._clock = SystemClock() if clock is None else clock
        # A reentrant lock: stopping a run from within a hook may come back with an event.
        self._lock = threading.RLock()
        self._observers = _named(observers)
        self._calls = {hook: self._overriders(hook) for hook in HOOKS}
        self._untold: deque[ObserverFailed] = deque()
        self._telling = False
        self._stop: Callable[[HoldfastError], None] | None = None
        self.failed: dict[str, str] = {}
        """What each observer that was switched off raised, in words, by its name."""
        self.essential_failure: HoldfastError | None = None
        """Why the run must stop, when an essential observer failed."""

    def when_essential_fails(self, stop: Callable[[HoldfastError], None]) -> None:
        """Have ``stop`` called with the reason, at once if it has already happened.

        It is called once, in the thread that forwarded the event, so it must only ask for the
        stop (as ``Scheduler.kill_all`` does) and not wait for it.
        """
        with self._lock:
            self._stop = stop
            failure = self.essential_failure
        if failure is not None:
            stop(failure)

    def run_started(self, event: RunStarted) -> None:
        """Forward the event."""
        self._forward("run_started", event)

    def jobs_added(self, jobs: Sequence[JobRecord]) -> None:
        """Forward the jobs."""
        self._forward("jobs_added", jobs)

    def jobs_changed(self, events: Sequence[JobChanged]) -> None:
        """Forward one batch."""
        self._forward("jobs_changed", events)

    def kill_requested(self, event: KillRequested) -> None:
        """Forward the event."""
        self._forward("kill_requested", event)

    def run_paused(self, event: RunPaused) -> None:
        """Forward the event."""
        self._forward("run_paused", event)

    def run_unpaused(self, event: RunUnpaused) -> None:
        """Forward the event."""
        self._forward("run_unpaused", event)

    def keeper_lost(self, event: KeeperLost) -> None:
        """Forward the event."""
        self._forward("keeper_lost", event)

    def adopted(self, event: Adopted) -> None:
        """Forward the event."""
        self._forward("adopted", event)

    def run_ended(self, event: RunEnded) -> None:
        """Forward the event."""
        self._forward("run_ended", event)

    def retell(self, start: RunStarted, jobs: Sequence[JobRecord]) -> None:
        """Tell of the start of a run that is adopted, and of all its jobs.

        Only the list of jobs, which may lack some, and those that remember nothing are told.
        """
        with self._lock:
            self._call("run_started", start, knowing=False)
            self._call("jobs_added", jobs)
            self._tell_of_failures()

    def retell_changes(self, events: Sequence[JobChanged]) -> None:
        """Tell those that remember nothing where the jobs of an adopted run stand."""
        with self._lock:
            self._call("jobs_changed", events, knowing=False)
            self._tell_of_failures()

    def close(self) -> None:
        """Close every observer, the switched-off ones too; never raises."""
        with self._lock:
            for name, observer in self._observers:
                try:
                    observer.close()
                except Exception as error:  # noqa: BLE001 - logged in _note_failure
                    self._note_failure(name, observer, error, "close")
            self._untold.clear()
            self._observers = []
            self._calls = dict.fromkeys(HOOKS, ())

    def _overriders(self, hook: str) -> tuple[_Call, ...]:
        base = getattr(Observer, hook)
        return tuple(
            (name, observer, getattr(observer, hook))
            for name, observer in self._observers
            if getattr(type(observer), hook) is not base
        )

    def _forward(self, hook: str, argument: object) -> None:
        with self._lock:
            self._call(hook, argument)
            if self._untold:
                self._tell_of_failures()

    def _call(self, hook: str, argument: object, *, knowing: bool = True) -> None:
        """Call a hook of all, or without ``knowing`` of those that remember nothing."""
        for name, observer, method in self._calls[hook]:
            if observer.remembers and not knowing:
                continue
            try:
                method(argument)
            except Exception as error:  # noqa: BLE001 - logged in _note_failure
                self._note_failure(name, observer, error, hook)

    def _note_failure(self, name: str, observer: Observer, error: Exception, hook: str) -> None:
        if name in self.failed:
            return  # its close stumbles over what has been told already
        _log.error('observer "%s" failed in %s and is switched off', name, hook, exc_info=error)
        self.failed[name] = _in_words(error)
        self._calls = {
            each: tuple(call for call in calls if call[1] is not observer)
            for each, calls in self._calls.items()
        }
        self._untold.append(ObserverFailed(self._clock.time(), name, _in_words(error)))
        if observer.essential:
            self._fail_run(name, error)

    def _fail_run(self, name: str, error: Exception) -> None:
        if self.essential_failure is not None:
            return
        self.essential_failure = (
            error if isinstance(error, HoldfastError) else _essential(name, error)
        )
        if self._stop is not None:
            self._stop(self.essential_failure)

    def _tell_of_failures(self) -> None:
        if self._telling:
            return  # the outer call goes on until nothing is untold
        self._telling = True
        try:
            while self._untold:
                self._call("observer_failed", self._untold.popleft())
        finally:
            self._telling = False


_Call = tuple[str, Observer, Callable[[object], None]]


def _named(observers: Iterable[Observer]) -> list[tuple[str, Observer]]:
    """Pair each observer with a name that no other has."""
    named: dict[str, Observer] = {}
    for observer in observers:
        name, copies = observer.name, 1
        while name in named:
            copies += 1
            name = f"{observer.name} {copies}"
        named[name] = observer
    return list(named.items())


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _essential(name: str, error: Exception) -> EssentialObserverError:
    return EssentialObserverError(
        f'observer "{name}" failed: {_in_words(error)}; the run cannot go on without it; '
        "the traceback is in the log above"
    )

"""The fake backend: nothing runs; a policy says what would have become of each attempt.

For tests of everything above a backend, for measuring the scheduler itself, and for predicting
how long a run would take under other limits.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Protocol

from backends.base import Backend, Completed, Completion, Launch
from backends.fake_outcome import FakeOutcome
from backends.fake_policy import FakePolicy, everything_passes
from backends.timer_thread import TimerThread
from backends.timers import Action
from tasks.clock import Clock
from tasks.events import JobEnd
from tasks.run_context import RunContext
from tasks.status import Cause, CauseKind, JobStatus


class Alarm(Protocol):
    """What wakes the backend: ``Timers`` of the scheduler, or a thread of its own."""

    @property
    def clock(self) -> Clock:
        """The clock of the moments."""

    def call_at(self, moment: float, action: Action) -> None:
        """Call the action when ``clock.monotonic`` has reached the moment."""


class _Attempt:
    """One attempt that seems to run."""

    __slots__ = ("ends_at", "launch", "outcome", "started_at", "stopped_at", "stopped_for")

    def __init__(self, launch: Launch, outcome: FakeOutcome, started_at: float) -> None:
        self.launch = launch
        self.outcome = outcome
        self.started_at = started_at
        self.ends_at = started_at + outcome.duration_s
        self.stopped_for: CauseKind | None = None
        """Why it ends at ``ends_at`` if not by itself: time limit or request."""
        self.stopped_at = math.inf
        """When it is told to end for that."""

    def stop(self, at: float, grace_s: float, kind: CauseKind) -> bool:
        """End it as a process tree is ended; return whether it ends earlier than before."""
        gone_at = at + (grace_s if self.outcome.ignores_sigterm else 0.0)
        if gone_at >= self.ends_at:
            return False
        self.ends_at = gone_at
        if at < self.stopped_at:  # else it is dying already, and this only cuts its grace
            self.stopped_at, self.stopped_for = at, kind
        return True


class FakeBackend(Backend):
    """Pretends to run jobs.

    ``policy`` decides the outcome and the duration of each attempt.  With the ``timers`` of the
    scheduler everything happens in the scheduler's thread, on its clock; without, in a thread of
    its own in real time.  Time limits and the grace of ``kill`` hold as on a real backend.
    """

    name = "fake"

    def __init__(
        self,
        context: RunContext,
        policy: FakePolicy = everything_passes,
        *,
        timers: Alarm | None = None,
    ) -> None:
        super().__init__(context)
        self._policy = policy
        self._alarm = timers
        self._own_thread: TimerThread | None = None
        self._lock = threading.Lock()
        self._running: dict[int, _Attempt] = {}
        self._ends: list[tuple[float, int, _Attempt]] = []
        # A heap; an attempt whose end was moved forward is in it twice.
        self._order = itertools.count()
        self._next_alarm = math.inf

    def start(self, completed: Completed) -> None:
        """Make ready; without given timers this starts a thread."""
        super().start(completed)
        if self._alarm is None:
            self._alarm = self._own_thread = TimerThread("holdfast-fake")

    def launch(self, launches: Sequence[Launch]) -> None:
        """Ask the policy what becomes of these attempts; those that take no time have ended."""
        now = self._clock.monotonic()
        ended: list[Completion] = []
        with self._lock:
            for launch in launches:
                outcome = self._policy(launch)
                if outcome.duration_s <= 0:
                    ended.append(_own_end(launch, outcome))
                else:
                    self._run(_Attempt(launch, outcome, now))
            self._set_alarm()
        if ended:
            self._completed(ended)

    def kill(self, numbers: Sequence[int], grace_s: float | None = None) -> None:
        """End attempts: at once, or after the grace time where the outcome ignores SIGTERM."""
        now = self._clock.monotonic()
        with self._lock:
            for number in numbers:
                attempt = self._running.get(number)
                if attempt is not None:
                    grace = self._grace_s(attempt.launch) if grace_s is None else grace_s
                    if attempt.stop(now, grace, CauseKind.CANCELLED):
                        self._note_end(attempt)
            self._set_alarm()

    def close(self) -> None:
        """Kill what runs without grace; it completes before this returns."""
        with self._lock:
            now = self._clock.monotonic() if self._running else 0.0
            attempts = list(self._running.values())
            self._running.clear()
            self._ends.clear()
        for attempt in attempts:
            attempt.stop(now, 0.0, CauseKind.CANCELLED)
        if attempts:
            self._completed([_completion(attempt) for attempt in attempts])
        if self._own_thread is not None:
            self._own_thread.close()

    @property
    def _clock(self) -> Clock:
        if self._alarm is None:
            raise RuntimeError("the fake backend was used before start(); this is a bug")
        return self._alarm.clock

    def _run(self, attempt: _Attempt) -> None:
        job = attempt.launch.job
        if job.timeout_s is not None and job.timeout_s < attempt.outcome.duration_s:
            limit_at = attempt.started_at + job.timeout_s
            attempt.stop(limit_at, self._grace_s(attempt.launch), CauseKind.TIMEOUT)
        self._running[attempt.launch.number] = attempt
        self._note_end(attempt)

    def _grace_s(self, launch: Launch) -> float:
        return launch.job.grace_s if self.context.grace_s is None else self.context.grace_s

    def _note_end(self, attempt: _Attempt) -> None:
        if attempt.ends_at < math.inf:
            heappush(self._ends, (attempt.ends_at, next(self._order), attempt))

    def _set_alarm(self) -> None:
        """Have the alarm ring at the next end, one alarm for all."""
        if self._ends and self._ends[0][0] < self._next_alarm and self._alarm is not None:
            self._next_alarm = self._ends[0][0]
            self._alarm.call_at(self._next_alarm, partial(self._ring, self._next_alarm))

    def _ring(self, moment: float) -> None:
        now = self._clock.monotonic()
        ended: list[Completion] = []
        with self._lock:
            while self._ends and self._ends[0][0] <= now:
                ends_at, _, attempt = heappop(self._ends)
                number = attempt.launch.number
                if self._running.get(number) is attempt and attempt.ends_at == ends_at:
                    del self._running[number]
                    ended.append(_completion(attempt))
            if moment == self._next_alarm:  # else another one is set that comes earlier
                self._next_alarm = math.inf
            self._set_alarm()
        if ended:
            self._completed(ended)


def _own_end(launch: Launch, outcome: FakeOutcome) -> Completion:
    """Return the end of an attempt that was left alone."""
    end = JobEnd(
        outcome.exit_code,
        outcome.signal,
        False,
        None
        if outcome.cause and outcome.cause.kind is CauseKind.LAUNCH_ERROR
        else outcome.duration_s,
        outcome.cpu_s,
        outcome.max_rss_bytes,
    )
    return Completion(launch.number, launch.attempt, outcome.status, end, outcome.cause)


def _completion(attempt: _Attempt) -> Completion:
    launch, kind = attempt.launch, attempt.stopped_for
    if kind is None:
        return _own_end(launch, attempt.outcome)
    end = JobEnd(
        signal=9 if attempt.outcome.ignores_sigterm else 15,
        runtime_s=attempt.ends_at - attempt.started_at,
        cpu_s=attempt.outcome.cpu_s,
        max_rss_bytes=attempt.outcome.max_rss_bytes,
    )
    cause = None
    if kind is CauseKind.TIMEOUT:
        limit_s = launch.job.timeout_s
        cause = Cause(kind, f"took longer than its {limit_s:g} s", {"timeout_s": limit_s})
    return Completion(launch.number, launch.attempt, JobStatus.KILLED, end, cause)

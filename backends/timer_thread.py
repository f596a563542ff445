"""A thread that calls things at moments of the real clock."""

from __future__ import annotations

import threading

from backends.timers import Action, Timers
from tasks.clock import SystemClock

_LONGEST_WAIT_S = 3600.0
"""What a thread waits at most at a time: beyond some 292 years the system refuses to."""


class TimerThread:
    """Timers that keep themselves; ``call_at`` may be called from any thread.

    Actions run in the thread, one after the other, and must be quick.
    """

    def __init__(self, name: str) -> None:
        self.clock = SystemClock()
        self._timers = Timers(self.clock)
        self._changed = threading.Condition()
        self._arrived: list[tuple[float, Action]] = []
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call_at(self, moment: float, action: Action) -> None:
        """Have the thread call the action when the moment has come."""
        with self._changed:
            self._arrived.append((moment, action))
            self._changed.notify()

    def close(self) -> None:
        """End the thread; what has not been due is never called.  Idempotent."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while self._wait():
            self._timers.run_due()

    def _wait(self) -> bool:
        with self._changed:
            self._take_arrived()
            wait_s = self._timers.wait_s()
            if not self._is_closed and wait_s != 0.0:
                self._changed.wait(None if wait_s is None else min(wait_s, _LONGEST_WAIT_S))
                self._take_arrived()
            return not self._is_closed

    def _take_arrived(self) -> None:
        for moment, action in self._arrived:
            self._timers.call_at(moment, action)
        self._arrived.clear()

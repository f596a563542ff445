"""Time as the engine sees it, so that tests can hold it in their hands."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the engine takes its time from."""

    def time(self) -> float:
        """Return seconds since the epoch, for what people read."""

    def monotonic(self) -> float:
        """Return seconds that never go back, for durations and deadlines."""


class EngineClock(Clock, Protocol):
    """A clock that also says how to wait, so that the engine can run on simulated time."""

    def wait_s(self, deadline: float) -> float | None:
        """Return how many real seconds to wait until ``monotonic`` has reached ``deadline``.

        ``None``: waiting does not move this clock, so wait for whatever else may happen.  Asked
        only when nothing else is to be done: a virtual clock then jumps to the deadline.
        """


class SystemClock:
    """The real time."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since some fixed moment."""
        return time.monotonic()

    def wait_s(self, deadline: float) -> float:
        """Return the seconds that are left until the deadline, 0 when it has passed."""
        return max(0.0, deadline - time.monotonic())


class VirtualClock:
    """Time that passes only when nobody has anything to do: it jumps to the next deadline.

    A schedule of days takes seconds, and comes out the same each time.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._epoch_s = start_s
        self._elapsed_s = 0.0

    def time(self) -> float:
        """Return seconds since the epoch: the given start and what has passed."""
        return self._epoch_s + self._elapsed_s

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self._elapsed_s

    def wait_s(self, deadline: float) -> float:
        """Jump to the deadline; nothing is left to wait for."""
        self._elapsed_s = max(self._elapsed_s, deadline)
        return 0.0

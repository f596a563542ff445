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


class SystemClock:
    """The real time."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since some fixed moment."""
        return time.monotonic()

"""A clock that a test moves by hand."""

from __future__ import annotations


class ManualClock:
    """Stands still until ``advance``; satisfies ``tasks.clock.EngineClock``."""

    def __init__(self, start_s: float = 1_000_000.0) -> None:
        self._epoch_s = start_s
        self._elapsed_s = 0.0

    def time(self) -> float:
        return self._epoch_s + self._elapsed_s

    def monotonic(self) -> float:
        return self._elapsed_s

    def wait_s(self, deadline: float) -> None:
        return None

    def advance(self, seconds: float) -> None:
        assert seconds >= 0
        self._elapsed_s += seconds

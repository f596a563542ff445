"""What a backend says of its attempts, as a test can wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from backends.base import Completion


class Completions:
    """Collects completions from whatever thread they come; hand it to ``Backend.start``."""

    def __init__(self) -> None:
        self.all: list[Completion] = []
        self.arrived_at: dict[tuple[int, int], float] = {}
        self._changed = threading.Condition()

    def __call__(self, completions: Sequence[Completion]) -> None:
        now = time.monotonic()
        with self._changed:
            for completion in completions:
                attempt = (completion.number, completion.attempt)
                assert attempt not in self.arrived_at, f"{attempt} completed twice"
                self.arrived_at[attempt] = now
                self.all.append(completion)
            self._changed.notify_all()

    def of(self, number: int, attempt: int = 1, timeout_s: float = 30.0) -> Completion:
        """Return how an attempt ended, once it has."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: (number, attempt) in self.arrived_at, timeout=timeout_s
            )
            assert came, f"attempt {attempt} of job {number} did not complete in {timeout_s} s"
            return next(c for c in self.all if (c.number, c.attempt) == (number, attempt))

    def count(self, number: int, timeout_s: float = 30.0) -> list[Completion]:
        """Return all completions, once there are so many."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.all) >= number, timeout=timeout_s)
            assert came, f"{len(self.all)} of {number} attempts completed in {timeout_s} s"
            return list(self.all)

    def __contains__(self, number: int) -> bool:
        return any(completion.number == number for completion in self.all)

"""Things to do at moments of a clock, for an engine that runs in one thread."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from tasks.clock import EngineClock

Action = Callable[[], None]


class Timers:
    """Actions with the moments at which they are due.

    Belongs to one thread: whoever waits for ``wait_s`` and calls ``run_due`` also calls
    ``call_at``.  Moments are those of ``clock.monotonic``.
    """

    def __init__(self, clock: EngineClock) -> None:
        self.clock = clock
        self._due: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def call_at(self, moment: float, action: Action) -> None:
        """Have ``run_due`` call the action when the moment has come; ties in this order."""
        heapq.heappush(self._due, (moment, next(self._order), action))

    def wait_s(self) -> float | None:
        """Return the real seconds to wait for the next action.

        ``None``: for as long as it takes, since there is none, or only the clock's owner moves
        it.  On a virtual clock the time then is that of the action.
        """
        return self.clock.wait_s(self._due[0][0]) if self._due else None

    def has_due(self) -> bool:
        """Return whether the moment of an action has come."""
        return bool(self._due) and self._due[0][0] <= self.clock.monotonic()

    def run_due(self) -> bool:
        """Call all actions whose moment has come; return whether there was one."""
        due = self._due
        if not due:
            return False
        now = self.clock.monotonic()
        some = False
        while due and due[0][0] <= now:
            some = True
            heapq.heappop(due)[2]()
        return some

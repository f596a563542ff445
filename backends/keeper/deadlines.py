"""What is due when: a heap, so that the loop sleeps exactly until the next thing to do."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], None]

_FEW = 64


class Deadline:
    """One action at one time; ``cancel`` makes it never happen."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Action | None) -> None:
        self.at = at
        self.action = action

    def __lt__(self, other: Deadline) -> bool:
        return self.at < other.at


class Deadlines:
    """All that is due in the future, by the monotonic clock."""

    __slots__ = ("_cancelled", "_heap")

    def __init__(self) -> None:
        self._heap: list[Deadline] = []
        self._cancelled = 0

    def add(self, at: float, action: Action) -> Deadline:
        """Do ``action`` once ``at`` has come."""
        deadline = Deadline(at, action)
        heapq.heappush(self._heap, deadline)
        return deadline

    def cancel(self, deadline: Deadline | None) -> None:
        """Forget a deadline; one that has passed or is ``None`` is ignored."""
        if deadline is None or deadline.action is None:
            return
        deadline.action = None
        self._cancelled += 1
        # A long time limit on many short jobs must not pile up until it is reached.
        if self._cancelled > _FEW and self._cancelled * 2 > len(self._heap):
            self._heap = [kept for kept in self._heap if kept.action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_at(self) -> float | None:
        """Return when the next action is due; ``None`` if nothing is."""
        heap = self._heap
        while heap and heap[0].action is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0].at if heap else None

    def run_due(self, now: float) -> None:
        """Do everything whose time has come, in order."""
        while (at := self.next_at()) is not None and at <= now:
            deadline = heapq.heappop(self._heap)
            action, deadline.action = deadline.action, None
            if action is not None:
                action()

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

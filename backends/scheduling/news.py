"""What the watcher is still to be told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from backends.scheduling.watcher import Watcher
from tasks.events import JobChanged

_SLICE = 1_000
"""How many changes the watcher is told at a time at most."""

_BACKLOG = 16
"""How many calls may be put off while there is something else to do."""


class News:
    """Events in their order, told in batches, without ever letting jobs wait for long."""

    def __init__(self, watcher: Watcher | None) -> None:
        self.watcher = watcher
        self.changes: list[JobChanged] = []
        """Changes since the last ``flush``; whoever changes a job appends here."""
        self._calls: deque[Callable[[], None]] = deque()

    def __bool__(self) -> bool:
        return bool(self.changes or self._calls)

    def announce(self, tell: Callable[[Watcher], None]) -> None:
        """Have something told after the changes so far."""
        watcher = self.watcher
        if watcher is not None:
            self._flush(watcher)
            self._calls.append(partial(tell, watcher))

    def tell(self, has_other_work: Callable[[], bool]) -> None:
        """Tell all there is; stop early, but for a bounded rest, for the sake of other work."""
        if self.watcher is None:
            return
        self._flush(self.watcher)
        calls = self._calls
        while calls:
            calls.popleft()()
            if len(calls) <= _BACKLOG and has_other_work():
                return

    def _flush(self, watcher: Watcher) -> None:
        changes = self.changes
        for start in range(0, len(changes), _SLICE):
            batch = changes if len(changes) <= _SLICE else changes[start : start + _SLICE]
            self._calls.append(partial(watcher.jobs_changed, batch))
        if changes:
            self.changes = []

"""Something of which a run has only so much: slots, or a named resource."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from backends.scheduling.id_pool import IdPool

if TYPE_CHECKING:
    from backends.scheduling.ready_queue import Place

UNLIMITED = sys.maxsize


class Supply:
    """What there is and what is in use; and which jobs wait for it."""

    __slots__ = ("in_use", "is_closed", "is_slot", "left", "limit", "pool", "waiting", "what")

    def __init__(self, what: str, limit: int, *, is_slot: bool, pool: IdPool | None = None) -> None:
        self.what = what
        """How messages call it."""
        self.limit = limit
        self.in_use = 0
        self.is_slot = is_slot
        """Whether it bounds attempts as such; a job that cannot start yet keeps no slot free."""
        self.pool = pool
        """The ids, where they are handed out."""
        self.left = 0
        """In one pass over the ready jobs: what those that come later may still take."""
        self.is_closed = False
        """In one pass: a job waits for this, so no later one may take of it."""
        self.waiting: list[Place] = []
        """A heap of the kinds of jobs that wait for this, by their first jobs."""

    @property
    def most(self) -> int:
        """How much there is when nothing is in use."""
        return self.limit if self.pool is None else min(self.limit, self.pool.size)

    def open(self) -> None:
        """Begin a pass."""
        self.is_closed = False
        self.left = self.limit - self.in_use
        if self.pool is not None:
            self.left = min(self.left, self.pool.free)

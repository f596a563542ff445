"""The jobs that could run, and which of them start when something is free.

Jobs that wait for the same things (backend and resources) are of one *kind* and share one heap:
when the first of a kind cannot start, none of it can, so a blocked kind costs nothing, however
many jobs it has.  A kind that cannot start is parked at the supply that it is short of; only the
first kind that is parked there is looked at again.

Nobody starves: a job that is short of something closes it to all that come later in the order,
and reserves the other resources that it asks for, so what it waits for can only become free.
Later jobs run on what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Any

from backends.scheduling.job_table import QUEUED
from backends.scheduling.supply import Supply

Key = Any
"""What the priority function returns: the least comes first, ties in order of submission."""

Place = tuple[Key, int, "JobKind"]
"""Where a kind stands among the others: key and number of its first job."""

_NOTHING: Mapping[str, tuple[str, ...]] = {}


class JobKind:
    """The ready jobs of one backend and one request for resources."""

    __slots__ = ("backend", "jobs", "place", "pooled", "queued", "request", "waits_for")

    def __init__(self, backend: str, request: Sequence[tuple[Supply, int]]) -> None:
        self.backend = backend
        self.request = tuple(request)
        """What one attempt takes: resources first, then slots."""
        self.pooled = tuple((s, amount) for s, amount in request if s.pool is not None)
        """Of these, what is handed out by id."""
        self.jobs: list[tuple[Key, int]] = []
        """A heap; a job that ended while it was queued is dropped when it comes first."""
        self.queued = 0
        """How many of the jobs are really queued."""
        self.place: Place | None = None
        """The one valid place under which this kind may be found; ``None``: nowhere."""
        self.waits_for: Supply | None = None

    def room(self) -> tuple[int, Supply | None]:
        """Return how many attempts can start now, or what the first is short of."""
        room = len(self.jobs)
        for supply, amount in self.request:
            fitting = 0 if supply.is_closed else supply.left // amount
            if fitting < 1:
                return 0, supply
            room = min(room, fitting)
        return room, None

    @property
    def is_impossible(self) -> bool:
        """Whether the limits, lowered meanwhile, do not admit even one attempt alone."""
        return any(amount > supply.most for supply, amount in self.request)

    def hand_out(self) -> Mapping[str, tuple[str, ...]]:
        """Return the ids for one attempt that was taken."""
        if not self.pooled:
            return _NOTHING
        return {s.what: s.pool.take(amount) for s, amount in self.pooled if s.pool is not None}


class ReadyQueue:
    """All kinds of jobs; ``take`` decides what starts.

    ``status`` holds a code for each job number, as ``JobTable`` keeps it; ``supplies`` are all
    there are, and may grow.
    """

    def __init__(self, status: bytearray, supplies: Sequence[Supply]) -> None:
        self._status = status
        self._supplies = supplies
        self._open: list[Place] = []
        # A heap of the kinds that may be able to start a job; it also holds invalid places.
        self._impossible: dict[JobKind, None] = {}
        self._has_changed = False

    @property
    def has_impossible(self) -> bool:
        """Whether jobs wait for a limit to be raised again."""
        return any(kind.queued for kind in self._impossible)

    def push(self, kind: JobKind, key: Key, number: int) -> None:
        """Add a job that has just become QUEUED."""
        heappush(kind.jobs, (key, number))
        kind.queued += 1
        place = kind.place
        if place is None or (key, number) < place[:2]:
            self._place(kind)
        self._has_changed = True

    def claim(self, kind: JobKind, ids: Mapping[str, tuple[str, ...]]) -> None:
        """Note what an attempt of this kind holds that was started before this queue was there."""
        for supply, amount in kind.request:
            supply.in_use += amount
        for supply, _ in kind.pooled:
            if supply.pool is not None:
                supply.pool.claim(ids.get(supply.what, ()))

    def give_back(self, kind: JobKind, ids: Mapping[str, tuple[str, ...]]) -> None:
        """Take back what an attempt of this kind held."""
        for supply, amount in kind.request:
            supply.in_use -= amount
        for supply, _ in kind.pooled:
            if supply.pool is not None:
                supply.pool.give_back(ids.get(supply.what, ()))
        self._has_changed = True

    def limits_changed(self) -> None:
        """Look again at everything that could not start under the old limits."""
        for kind in self._impossible:
            if kind.place is None and kind.jobs:
                self._place(kind)
        self._impossible.clear()
        self._has_changed = True

    def take(self) -> list[tuple[JobKind, list[int]]]:
        """Return the numbers of the jobs that start now, in order, in runs of one kind.

        What they ask for counts as in use from now on.
        """
        taken: list[tuple[JobKind, list[int]]] = []
        if not self._has_changed:
            return taken
        self._has_changed = False
        for supply in self._supplies:
            supply.open()
            self._reopen(supply)
        while self._open:
            place = heappop(self._open)
            if place is place[2].place:
                self._visit(place, taken)
        return taken

    def _visit(self, place: Place, taken: list[tuple[JobKind, list[int]]]) -> None:
        kind, parked_at = place[2], place[2].waits_for
        kind.waits_for = None
        self._drop_ended(kind)
        moved = not kind.jobs or kind.jobs[0][1] != place[1]
        room, short = (0, None) if moved else kind.room()
        if short is not None:
            self._park(kind, place, short)
        if parked_at is not None:
            self._reopen(parked_at)  # the next that waits there has its turn, unless it is closed
        if short is None:
            if room:
                taken.append((kind, self._take_from(kind, room)))
            self._place(kind)

    def _drop_ended(self, kind: JobKind) -> None:
        jobs, status = kind.jobs, self._status
        while jobs and status[jobs[0][1]] != QUEUED:
            heappop(jobs)

    def _take_from(self, kind: JobKind, room: int) -> list[int]:
        """Take jobs while they come before those of every other kind."""
        jobs, status = kind.jobs, self._status
        rival = self._open[0][:2] if self._open else None
        numbers: list[int] = []
        while jobs and len(numbers) < room and (rival is None or jobs[0] <= rival):
            number = heappop(jobs)[1]
            if status[number] == QUEUED:
                numbers.append(number)
        for supply, amount in kind.request:
            supply.in_use += amount * len(numbers)
            supply.left -= amount * len(numbers)
        kind.queued -= len(numbers)
        return numbers

    def _park(self, kind: JobKind, place: Place, short: Supply) -> None:
        kind.waits_for = short
        if kind.is_impossible:
            # It would close the supply for as long as nobody raises the limit.
            kind.place = None
            self._impossible[kind] = None
            return
        heappush(short.waiting, place)
        short.is_closed = True
        for supply, amount in kind.request:
            if not supply.is_slot and supply is not short:
                supply.left -= amount

    def _place(self, kind: JobKind) -> None:
        """Put a kind where its first job belongs among the others."""
        kind.place = None
        if kind.jobs:
            kind.place = (*kind.jobs[0], kind)
            heappush(self._open, kind.place)

    def _reopen(self, supply: Supply) -> None:
        """Look again at the first kind that waits for a supply."""
        waiting = supply.waiting
        while waiting and not supply.is_closed:
            place = heappop(waiting)
            if place is place[2].place:
                heappush(self._open, place)
                return

"""The ids of one resource, each in at most one pair of hands at a time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence


class IdPool:
    """Hands out ids, those that stand first in the list first; may be given another list."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._out: set[str] = set()
        self.replace(ids)

    @property
    def size(self) -> int:
        """How many ids there are, those that are out included."""
        return len(self._rank)

    @property
    def free(self) -> int:
        """How many ids can be taken now."""
        return len(self._free)

    def take(self, count: int) -> tuple[str, ...]:
        """Return that many free ids; raises ``IndexError`` where there are fewer."""
        if count > len(self._free):
            raise IndexError(f"{count} ids asked for, {len(self._free)} free; this is a bug")
        taken = tuple(heapq.heappop(self._free)[1] for _ in range(count))
        self._out.update(taken)
        return taken

    def claim(self, ids: Iterable[str]) -> None:
        """Note ids that are out already, whether this pool knows them or not."""
        self._out.update(ids)
        self.replace(tuple(self._rank))

    def give_back(self, ids: Iterable[str]) -> None:
        """Make ids free again, but for those that have been replaced meanwhile."""
        for each in ids:
            self._out.remove(each)
            if each in self._rank:
                heapq.heappush(self._free, (self._rank[each], each))

    def replace(self, ids: Sequence[str]) -> None:
        """Have these ids from now on; old ones that are out vanish when they come back."""
        self._rank = {each: rank for rank, each in enumerate(ids)}
        self._free = [(rank, each) for each, rank in self._rank.items() if each not in self._out]

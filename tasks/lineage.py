"""Counts what came from each source, so that it is known when all of it has arrived.

A source opens with one item, itself.  An item that becomes several counts once less and so many
times more; one that is filtered or reaches the sink counts once less; a failed one goes on
counting, so its source stays open and runs again.  A source whose count is zero is complete.

Items are told apart by paths: the name of their source and, for each step that made several, the
place among them.  Nothing is parsed, so any character may be in a name.  An item is in one state at
a time, which makes every update idempotent: the same again changes nothing, another one takes the
place of the first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

ItemId = tuple[str | int, ...]
"""``(source, place, place, ...)``."""

_ITEMS_REMEMBERED = 100_000
"""Items of complete sources that are remembered, to tell a repeat from an update that is new."""


class Effect(Enum):
    """What an update changed."""

    APPLIED = "applied"
    REPEATED = "repeated"
    """It said what was known already, and changed nothing."""
    CORRECTED = "corrected"
    """It took the place of what had been said before."""
    TOO_LATE = "too late"
    """Its source was complete already: it is open again and stays so."""


class Fate(Enum):
    """What became of an item that does not go on as it is."""

    FILTERED = "filtered"
    SUNK = "reached the sink"
    FAILED = "failed"
    DIVIDED = "became others"


@dataclass(frozen=True, slots=True)
class Update:
    """What became of an item; ``children`` of a DIVIDED one, ``parents`` where several were one."""

    fate: Fate
    children: tuple[ItemId, ...] = ()
    parents: tuple[ItemId, ...] = ()
    reason: str = ""


@dataclass(slots=True)
class Change:
    """The effect of an update, and the items that exist no longer because of it."""

    effect: Effect
    gone: list[ItemId] = field(default_factory=list)
    """Items of an earlier answer, to be taken out of the sink if they have reached it."""


@dataclass(slots=True)
class _Open:
    """One source."""

    count: int = 1
    fates: dict[ItemId, Update] = field(default_factory=dict)
    alive: set[ItemId] = field(default_factory=set)
    failed: dict[ItemId, str] = field(default_factory=dict)
    has_items: bool = False


class Lineage:
    """The sources of one worker process.  Not thread-safe."""

    def __init__(self) -> None:
        self._sources: dict[str, _Open] = {}
        self._complete: OrderedDict[str, _Open] = OrderedDict()
        self._remembered = 0
        self.late: list[tuple[ItemId, str]] = []
        """Updates that came after their source was complete, each a bug of the stage it names."""

    def open(self, source: str) -> ItemId:
        """Open a source with one item, and return that item's path."""
        root: ItemId = (source,)
        self._sources[source] = _Open(alive={root})
        known = self._complete.pop(source, None)
        self._remembered -= len(known.fates) if known is not None else 0
        return root

    def add(self, parent: ItemId, place: int) -> ItemId:
        """Add one more child of an item that goes on giving some, and return its path."""
        child = (*parent, place)
        state = self._sources[str(parent[0])]
        state.count += 1
        state.has_items = True
        state.alive.add(child)
        return child

    def has_items(self, source: str) -> bool:
        """Whether anything has come from the source so far."""
        return self._sources[source].has_items

    def is_done(self, source: str) -> bool:
        """Whether all that came from the source has arrived or was filtered."""
        state = self._sources.get(source)
        return state is not None and state.count == 0

    def failures(self, source: str) -> dict[ItemId, str]:
        """Return the items that keep the source open because they failed, with the reasons."""
        return self._sources[source].failed

    def unanswered(self, source: str) -> list[ItemId]:
        """Return the items that keep the source open because nothing was said of them."""
        state = self._sources[source]
        return sorted(state.alive - state.failed.keys(), key=repr)

    def complete(self, source: str) -> None:
        """Note that a done source has been recorded: whatever comes from now on is too late."""
        state = self._sources.pop(source)
        self._complete[source] = state
        self._remembered += len(state.fates)
        while self._remembered > _ITEMS_REMEMBERED:
            _, oldest = self._complete.popitem(last=False)
            self._remembered -= len(oldest.fates)

    def close(self, source: str) -> None:
        """Forget a source that was given up."""
        self._sources.pop(source, None)

    def update(self, item: ItemId, update: Update, stage: str = "") -> Change:
        """Say what became of an item; ``stage`` is who says so, for messages."""
        source = str(item[0])
        state = self._sources.get(source)
        if state is None:
            return self._after_the_end(source, item, update, stage)
        if state.fates.get(item) == update:
            return Change(Effect.REPEATED)
        gone: list[ItemId] = []
        corrects = item in state.fates
        if corrects:
            self._undo(state, item, gone)
        elif item not in state.alive:
            # It was made by an answer that has been replaced since.
            return Change(Effect.REPEATED)
        self._apply(state, item, update)
        return Change(Effect.CORRECTED if corrects else Effect.APPLIED, gone)

    def reopen(self, item: ItemId, stage: str = "") -> Change:
        """Say that an item is to go on after all, whatever was said of it before."""
        source = str(item[0])
        state = self._sources.get(source)
        if state is None:
            return self._after_the_end(source, item, None, stage)
        if item not in state.fates:
            return Change(Effect.APPLIED)
        gone: list[ItemId] = []
        self._undo(state, item, gone)
        return Change(Effect.CORRECTED, gone)

    def _after_the_end(
        self, source: str, item: ItemId, update: Update | None, stage: str
    ) -> Change:
        done = self._complete.get(source)
        if done is not None and update is not None and done.fates.get(item) == update:
            return Change(Effect.REPEATED)
        self.late.append((item, stage))
        return Change(Effect.TOO_LATE)

    def _apply(self, state: _Open, item: ItemId, update: Update) -> None:
        parents = update.parents or (item,)
        for parent in parents:
            if parent != item and parent in state.fates:
                self._undo(state, parent, [])
            state.fates[parent] = update
        if update.fate is Fate.FAILED:
            state.failed[item] = update.reason
            return
        state.alive.difference_update(parents)
        state.count -= len(parents)
        new = [child for child in update.children if child not in state.alive]
        state.alive.update(new)
        state.count += len(new)

    def _undo(self, state: _Open, item: ItemId, gone: list[ItemId]) -> None:
        """Take back what was said of an item, and with it whatever came from it."""
        update = state.fates.pop(item)
        gone.append(item)
        if update.fate is Fate.FAILED:
            del state.failed[item]
            return
        parents = update.parents or (item,)
        for parent in parents:
            state.fates.pop(parent, None)
        state.alive.update(parents)
        state.count += len(parents)
        for child in update.children:
            if child in state.fates:
                self._undo(state, child, gone)
            if child in state.alive:
                state.alive.discard(child)
                state.count -= 1
            gone.append(child)


def children_of(parent: ItemId, count: int) -> tuple[ItemId, ...]:
    """Return the paths of an item's children, in order."""
    return tuple((*parent, place) for place in range(count))


def children_of_several(parents: Sequence[Sequence[ItemId]]) -> tuple[ItemId, ...]:
    """Return paths for items that each came from several others, in order.

    Each is counted among the children of its first parent, so that the same answer gives the same
    paths.
    """
    places: dict[ItemId, int] = {}
    paths: list[ItemId] = []
    for group in parents:
        first = group[0]
        place = places.get(first, 0)
        places[first] = place + 1
        paths.append((*first, place))
    return tuple(paths)


def in_order(items: Iterable[ItemId]) -> list[ItemId]:
    """Return the paths of one source's items in the order of the tree they form."""
    return sorted(items, key=lambda path: path[1:])

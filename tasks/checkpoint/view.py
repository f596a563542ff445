"""What a set of store files says together: for each source, the newest of all."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any, TypeVar

from tasks.checkpoint.environment import Environment
from tasks.checkpoint.header import Header
from tasks.checkpoint.record import (
    DamagedRecordError,
    Outcome,
    Record,
    check,
    decode,
    encode,
    generation_of,
    is_done,
    is_withdrawn,
    key_of,
    newest,
)

_SMALLEST_BLOCK = 500
_MERGED_TOGETHER = 20_000
_CHUNK = 2_000
"""Sources that are looked up together: large enough to cost no time, small enough no memory."""
_BEYOND_ALL = (1 << 64) - 1

Entry = TypeVar("Entry", bound=tuple[Any, ...])
"""A source's name, its fingerprint, and whatever else the caller wants to have back with them."""

Holds = Callable[[Record], bool]
"""Whether what a record says is still so."""


class View:
    """Open files, newest first, and what is known to be missing from them.

    ``withdrawn`` are sources, by key, whose records of earlier generations than the given one do
    not count: their withdrawal was lost with a damaged file.  ``floor`` does that for all.
    """

    def __init__(
        self,
        files: Iterable[tuple[Environment, int]],
        withdrawn: Mapping[bytes, int] | None = None,
        floor: int = 0,
    ) -> None:
        self._withdrawn = dict(withdrawn or {})
        self.floor = floor
        self._files: list[tuple[Environment, int, int]] = []
        self._arrange(files)

    def _arrange(self, files: Iterable[tuple[Environment, int]]) -> None:
        ordered = sorted(files, key=itemgetter(1), reverse=True)
        self._files = []
        after = 0
        for environment, highest in reversed(ordered):
            self._files.insert(0, (environment, highest, after))
            after = highest

    def add_live(self, environment: Environment) -> None:
        """Look into this file too, which is being written."""
        files = [(known, highest) for known, highest, _ in self._files]
        self._arrange([*files, (environment, _BEYOND_ALL)])

    def remove(self, environment: Environment) -> None:
        """Look into this file no longer."""
        files = [(known, highest) for known, highest, _ in self._files]
        self._arrange(entry for entry in files if entry[0] is not environment)

    def lookup(self, sources: Iterable[str]) -> Iterator[Record | None]:
        """Yield for each source, in order, what counts; ``None`` where nothing does.

        A withdrawal counts as a record: its outcome says so.
        """
        names = iter(sources)
        while chunk := list(islice(names, _CHUNK)):
            keys = [key_of(source) for source in chunk]
            values = self._values(keys)
            for source, key in zip(chunk, keys, strict=True):
                value = values.get(key)
                yield None if value is None else _decoded(key, value, source)

    def undone(
        self, entries: Iterable[Entry], base: int, holds: Holds | None
    ) -> Iterator[list[tuple[Entry, Record | None]]]:
        """Yield, for each block of sources with fingerprints, those that are not done.

        Done is what has a record of DONE with this fingerprint in a generation from ``base`` on,
        for which ``holds``, where given, returns true.  This is the start of a resumed run, hence
        without it no object is made for a source that is spared.
        """
        all_entries = iter(entries)
        while chunk := list(islice(all_entries, _CHUNK)):
            keys = [key_of(entry[0]) for entry in chunk]
            values = self._values(keys)
            rest: list[tuple[Entry, Record | None]] = []
            for key, entry in zip(keys, chunk, strict=True):
                value = values.get(key)
                if value is None:
                    rest.append((entry, None))
                    continue
                done = is_done(value, entry[1], base)
                if done and holds is None:
                    continue
                record = _decoded(key, value, entry[0])
                if not done or record is None or (holds is not None and not holds(record)):
                    rest.append((entry, record))
            yield rest

    def records(self) -> Iterator[Record]:
        """Yield what counts of every source, in the order of the keys."""
        for key, value in self.items():
            with suppress(DamagedRecordError):
                yield decode(key, value)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of what counts of every source, in the order of the keys."""
        items = chain.from_iterable(self._blocks())
        if self.floor or self._withdrawn:
            return (item for item in items if self._counts(*item))
        return items

    def _blocks(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """Merge the files, block by block: item by item it would take three times as long."""
        size = max(_SMALLEST_BLOCK, _MERGED_TOGETHER // max(1, len(self._files)))
        streams = [environment.blocks(size) for environment, _, _ in self._files]
        waiting = [next(stream, []) for stream in streams]
        while any(waiting):
            # Up to here every file that goes on has been read.
            bound = min(block[-1][0] for block in waiting if block)
            together = []
            for index, block in enumerate(waiting):
                end = bisect_right(block, bound, key=itemgetter(0))
                together.append(block[:end])
                waiting[index] = block[end:] or next(streams[index], [])
            yield _newest_of_each(sorted(chain.from_iterable(together)))

    def _counts(self, key: bytes, value: bytes) -> bool:
        generation = generation_of(value)
        return generation >= self.floor and generation >= self._withdrawn.get(key, 0)

    def _values(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        best = self._best(keys)
        if self.floor or self._withdrawn:
            return {key: value for key, value in best.items() if self._counts(key, value)}
        return best

    def _best(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        best: dict[bytes, bytes] = {}
        for environment, highest, after in self._files:
            found = environment.get_many(keys)
            if highest == _BEYOND_ALL:
                found = {key: _trusted(key, value) for key, value in found.items()}
            if not best:
                best = found
            else:
                for key, value in found.items():
                    known = best.get(key)
                    best[key] = value if known is None else newest((known, value))
            if after:
                keys = [key for key in keys if not _is_settled(best.get(key), after)]
                if not keys:
                    break
        return best


def _is_settled(value: bytes | None, highest: int) -> bool:
    """Whether files with generations up to ``highest`` cannot say anything newer."""
    if value is None:
        return False
    generation = generation_of(value)
    return generation > highest or (generation == highest and not is_withdrawn(value))


def _trusted(key: bytes, value: bytes) -> bytes:
    """Return the value, or the newest of all withdrawals where it is damaged."""
    return value if check(key, value) else encode(key, Outcome.WITHDRAWN, _BEYOND_ALL)


def _decoded(key: bytes, value: bytes, source: str) -> Record | None:
    try:
        return decode(key, value, source)
    except DamagedRecordError:
        return None


def _newest_of_each(items: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return sorted items with the header and all but the newest value of a key left out."""
    unique = dict(items)
    if len(unique) < len(items):
        for key, group in groupby(items, key=itemgetter(0)):
            unique[key] = newest(value for _, value in group)
    for key in [key for key in islice(unique, 1) if Header.is_header(key)]:
        del unique[key]
    return list(unique.items())

"""Where the items of a pipeline come from, one source at a time.

A source is the unit of resume, so its name must stand for the same content in every run: a path, a
key, a digest; not a place in a list.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

from tasks.content_hashes import ContentHashes
from tasks.errors import InputError


class SourceRef(NamedTuple):
    """One source: its name, where it was found, and what its content is known by."""

    name: str
    origin: str
    """For messages: how a person would find it."""
    fingerprint: bytes = b""
    """Changes when the content does; empty where the name alone says what the content is."""


class Source(ABC):
    """Gives the sources of a pipeline.

    ``names_are_unique``: they cannot be given twice, so nobody needs to look.
    """

    version: str = "1"
    names_are_unique: bool = False

    def open(self, cache: Path | None) -> None:  # noqa: B027 - most sources need nothing
        """Make ready, in the worker process; ``cache`` is a folder for what saves time."""

    @abstractmethod
    def refs(self, wanted: Callable[[str], bool]) -> Iterator[SourceRef]:
        """Yield the sources whose names are wanted, in an order that stays the same.

        What is not wanted needs no fingerprint, which may be costly.
        """

    @abstractmethod
    def read(self, ref: SourceRef) -> Iterable[Any]:
        """Yield the items of one source."""

    def close(self) -> None:  # noqa: B027 - most sources need nothing
        """Let go of everything, in the worker process."""

    def parameters(self) -> Mapping[str, Any]:
        """Return what makes the items what they are, beside the content; plain values."""
        return {}


class Files(Source):
    """The files below a folder, by their paths relative to it; each is one source.

    ``read`` makes the items of a file from its path; without it the path is the one item.
    ``fingerprint``: by ``content`` a touched file is the same, by ``stat`` (size and time of
    modification) nothing is read to find out.
    """

    names_are_unique = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        pattern: str = "*",
        *,
        read: Callable[[Path], Iterable[Any]] | None = None,
        fingerprint: Literal["content", "stat"] = "content",
    ) -> None:
        self.folder = Path(folder)
        self.pattern = pattern
        self.fingerprint = fingerprint
        self._read = read
        self._hashes = ContentHashes(None)

    def open(self, cache: Path | None) -> None:
        """Use the digests that are known from earlier runs."""
        self._hashes = ContentHashes(cache)

    def refs(self, wanted: Callable[[str], bool]) -> Iterator[SourceRef]:
        """Yield the files whose names match the pattern, folder by folder, in order.

        Raises ``InputError`` where the folder is none.
        """
        if not self.folder.is_dir():
            raise InputError([f'"{self.folder}" is no folder with source files'])
        for place, folders, names in os.walk(self.folder):
            folders.sort()
            for name in sorted(names):
                path = Path(place, name)
                relative = path.relative_to(self.folder).as_posix()
                if PurePath(name).match(self.pattern) and wanted(relative) and path.is_file():
                    yield SourceRef(relative, str(path), self._fingerprint_of(path))

    def _fingerprint_of(self, path: Path) -> bytes:
        try:
            if self.fingerprint == "content":
                return bytes.fromhex(self._hashes.digest(path))
            status = path.stat()
        except OSError:
            return b"unreadable"  # reading it will fail, with the reason
        return b"%d %d" % (status.st_size, status.st_mtime_ns)

    def read(self, ref: SourceRef) -> Iterable[Any]:
        """Yield the items of one file."""
        path = self.folder / ref.name
        return [path] if self._read is None else self._read(path)

    def close(self) -> None:
        """Keep the digests for the next run."""
        self._hashes.save()


BY_POSITION: Literal["by position"] = "by position"
"""Names sources by their places in the list: only for one whose order never changes."""


class Items(Source):
    """A list of values, each one source with itself as the one item.

    ``ids`` gives the name of a value.  Raises ``InputError`` without it: a place in a list names
    another value as soon as one is put before it.
    """

    def __init__(
        self,
        items: Sequence[Any],
        *,
        ids: Callable[[Any], str] | Literal["by position"] | None = None,
        fingerprint: Callable[[Any], bytes] | None = None,
    ) -> None:
        if ids is None:
            raise InputError(
                [
                    "these sources have no names of their own: give ids=..., a function that "
                    "returns the same name for the same content in every run; or, for a list "
                    "whose order never changes, ids=BY_POSITION"
                ]
            )
        self._items = items
        self._ids = ids
        self._fingerprint = fingerprint
        self.names_are_unique = ids == BY_POSITION

    def refs(self, wanted: Callable[[str], bool]) -> Iterator[SourceRef]:
        """Yield the values in order."""
        for place, item in enumerate(self._items):
            name = str(place) if self._ids == BY_POSITION else self._name_of(place, item)
            if wanted(name):
                fingerprint = b"" if self._fingerprint is None else self._fingerprint(item)
                yield SourceRef(name, f"item {place}", fingerprint)

    def _name_of(self, place: int, item: Any) -> str:
        if not callable(self._ids):
            raise InputError([f"ids must be a function or BY_POSITION, not {self._ids!r}"])
        name = self._ids(item)
        if not isinstance(name, str):
            raise InputError([f"ids gave {name!r} for item {place}: a name is text"])
        return name

    def read(self, ref: SourceRef) -> Iterable[Any]:
        """Yield the one item."""
        return [self._items[int(ref.origin.removeprefix("item "))]]


def stable_hash(name: str) -> int:
    """Return a number that a name has in every process, run and machine."""
    encoded = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "little")


class _Numbers:
    """A set of 64-bit numbers in sixteen bytes each: a million names are no burden."""

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 << 10))
        self._count = 0

    def add(self, number: int) -> bool:
        """Add a number; whether it was new."""
        number = number or 1  # zero marks an empty place
        place = self._place(self._table, number)
        if self._table[place] == number:
            return False
        self._table[place] = number
        self._count += 1
        if 2 * self._count > len(self._table):
            self._grow()
        return True

    def _place(self, table: array[int], number: int) -> int:
        mask = len(table) - 1
        place = (number ^ number >> 29) & mask
        while table[place] not in (0, number):
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        table = array("Q", bytes(8 * len(self._table) * 2))
        for number in self._table:
            if number:
                table[self._place(table, number)] = number
        self._table = table


def check_names(source: Source) -> int:
    """Return how many sources there are.

    Raises ``InputError`` that names both where two have the same name.
    """
    seen = _Numbers()
    count = 0

    def is_twice(name: str) -> bool:
        nonlocal count
        count += 1
        return not source.names_are_unique and not seen.add(stable_hash(name))

    for second in source.refs(is_twice):
        first = next(iter(source.refs(lambda name, twice=second.name: name == twice)))  # type: ignore[misc]
        if first.name == second.name and first.origin != second.origin:
            raise InputError(
                [
                    f'two sources have the same name "{second.name}": {first.origin} and '
                    f"{second.origin}; names must differ, since a checkpoint is kept by them"
                ]
            )
    return count

"""What a disk holds after a power cut: recorded writes and syncs, replayed to a moment.

The rules are harder than those of any real disk.  What was synced is there.  Of what was not, any
part may be: any of the writes to a file, each cut off at a sector; names (created, renamed,
removed) only up to a moment, in order, since file systems keep their journal in order.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = struct.Struct("<BIIQQ")
_SECTOR = 512
_SOURCE = Path(__file__).with_name("record_writes.c")


def build_recorder(folder: Path) -> Path | None:
    """Compile the library that records; ``None`` where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "record_writes.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return library


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that the program did."""

    kind: str
    path: str
    other: str
    offset: int
    data: bytes


def read_log(path: Path) -> list[Entry]:
    """Return what was recorded."""
    content = path.read_bytes()
    entries, at = [], 0
    while at < len(content):
        kind, first, second, offset, length = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        names = content[at : at + first + second].decode()
        at += first + second
        has_data = chr(kind) in "wd"
        data = content[at : at + length] if has_data else b""
        at += len(data)
        entries.append(Entry(chr(kind), names[:first], names[first:], offset, data))
    return entries


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Entry] = field(default_factory=list)


class Disk:
    """The state of a disk while the entries are replayed."""

    def __init__(self) -> None:
        self._names: dict[str, _File | None] = {}
        self._durable_names: dict[str, _File | None] = {}
        self._pending_names: list[Entry] = []

    def replay(self, entries: Sequence[Entry]) -> None:
        """Do these in order."""
        for entry in entries:
            self._do(entry)

    def _do(self, entry: Entry) -> None:
        file = self._names.get(entry.path)
        match entry.kind:
            case "c" | "m" | "r" | "u":
                self._rename(self._names, entry, new=_File())
                self._pending_names.append(entry)
            case "w" | "t":
                if file is not None:
                    file.pending.append(entry)
            case "d":
                if file is not None:
                    _apply(file.durable, entry)
            case "s":
                self._sync(entry.path)
            case "a":
                for path in [*self._names, str(Path(entry.path))]:
                    self._sync(path)

    def _rename(
        self, names: dict[str, _File | None], entry: Entry, new: _File | None = None
    ) -> None:
        match entry.kind:
            case "c":
                if entry.path not in names:
                    names[entry.path] = new
            case "m":
                names[entry.path] = None
            case "r":
                names[entry.other] = names.pop(entry.path, None)
            case "u":
                names.pop(entry.path, None)

    def _sync(self, path: str) -> None:
        file = self._names.get(path)
        if file is None:
            # A folder: its names, and what had to be done before them in the journal.
            self._durable_names = dict(self._names)
            self._pending_names.clear()
            return
        for entry in file.pending:
            _apply(file.durable, entry)
        file.pending.clear()

    def cut(self, rng: random.Random) -> dict[str, bytes | None]:
        """Return what is found after the power is back, by path; ``None`` for a folder."""
        names = dict(self._durable_names)
        current = dict(self._names)
        kept = rng.randint(0, len(self._pending_names)) if rng.random() < 0.7 else 0
        made = {e.path: current.get(e.path) for e in self._pending_names if e.kind == "c"}
        for entry in self._pending_names[:kept]:
            self._rename(names, entry, made.get(entry.path) or _File())
        return {
            path: None if file is None else bytes(_after_cut(file, rng))
            for path, file in names.items()
        }


def _after_cut(file: _File, rng: random.Random) -> bytearray:
    content = bytearray(file.durable)
    share = rng.choice((0.0, 0.3, 0.7, 1.0))
    for entry in file.pending:
        if rng.random() < share:
            _apply(content, _torn(entry, rng))
    return content


def _torn(entry: Entry, rng: random.Random) -> Entry:
    if entry.kind == "t" or len(entry.data) <= _SECTOR or rng.random() < 0.7:
        return entry
    kept = rng.randrange(0, len(entry.data), _SECTOR)
    return Entry(entry.kind, entry.path, entry.other, entry.offset, entry.data[:kept])


def _apply(content: bytearray, entry: Entry) -> None:
    if entry.kind == "t":
        del content[entry.offset :]
        content.extend(bytes(entry.offset - len(content)))
        return
    end = entry.offset + len(entry.data)
    if not entry.data:
        return
    content.extend(bytes(max(0, end - len(content))))
    content[entry.offset : end] = entry.data


def write_out(state: dict[str, bytes | None], below: Path, target: Path) -> None:
    """Lay the state that was found below one folder out below another."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path, content in sorted(state.items()):
        place = target / Path(path).relative_to(below)
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)


def moments(entries: Sequence[Entry], rng: random.Random, count: int) -> Iterator[int]:
    """Yield random moments of a recording, in order."""
    return iter(sorted(rng.randrange(1, len(entries) + 1) for _ in range(count)))

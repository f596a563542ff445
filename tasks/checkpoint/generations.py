"""The generations of a store: one for each run, with a mark when it starts and when it ends.

``generations.jsonl`` is a plain file of one JSON object a line, each with a checksum, appended
and synced under the store's lock.  So whether a run was interrupted can be told without LMDB, and
damage to a store file never takes a generation's number with it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from tasks.atomic_file import write_atomically
from tasks.checkpoint.durable import sync_directory
from tasks.checkpoint.errors import CheckpointRefusedError
from tasks.checkpoint.record import FORMAT
from tasks.status import RunStatus

FILE_NAME = "generations.jsonl"
RUN, RESET, RESET_ALL = "run", "reset", "reset_all"
_INTERRUPTED = frozenset({RunStatus.CANCELLED.value, RunStatus.CRASHED.value})


@dataclass(slots=True)
class Mark:
    """One generation, as its marks tell."""

    number: int
    run: str = ""
    started_at: float = 0.0
    """Seconds since the epoch."""
    base: int = 0
    """The generation of the first run of this attempt at the work: a fresh start is its own base,
    a run that resumes takes the base of the one it resumes."""
    shard: str = ""
    """``3/8`` where several runs share the sources between them; else empty."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What all records of the generation have in common: versions and digests of stages."""
    status: str = ""
    """How the run ended; empty while it runs, and for ever if it was killed."""
    ended_at: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    kind: str = RUN
    """``run``, ``reset`` of some sources, or ``reset_all``: no earlier record counts any longer."""

    @property
    def was_interrupted(self) -> bool:
        """Whether the work was left half done."""
        return not self.status or self.status in _INTERRUPTED


class Generations:
    """The marks of a store directory.  Writing needs the store's lock."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self.marks: dict[int, Mark] = {}
        self.problems: list[str] = []
        self._unreadable = 0
        self._read()

    def _read(self) -> None:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                self._take(line, number)

    def _take(self, line: bytes, number: int) -> None:
        try:
            entry = _unsealed(line)
        except ValueError:
            self._unreadable += 1
            self.problems.append(
                f'"{self.path}" line {number} is damaged and was ignored: what it said of the end '
                "or the beginning of a run is not known"
            )
            return
        if entry["v"] > FORMAT:
            raise CheckpointRefusedError(
                f'checkpoint "{self.path.parent}" was written in format {entry["v"]}; this version '
                f"reads up to {FORMAT}: install a newer Holdfast, or choose another folder with "
                "--checkpoint DIR"
            )
        mark = self._mark(entry["generation"])
        if entry["mark"] == "end":
            mark.status = entry["status"]
            mark.ended_at = entry["at"]
            mark.counts = entry["counts"]
            return
        mark.run = entry["run"]
        mark.started_at = entry["at"]
        mark.base = entry["base"]
        mark.shard = entry["shard"]
        mark.facts = entry["facts"]
        mark.kind = entry["kind"]

    def _mark(self, number: int) -> Mark:
        # Where the start mark is lost, nothing from before that run is believed.
        return self.marks.setdefault(number, Mark(number, base=number))

    @property
    def newest(self) -> int:
        """The highest number that was ever taken, damaged lines counted; 0 before the first."""
        return max(self.marks, default=0) + self._unreadable

    @property
    def floor(self) -> int:
        """Records of generations below this one were reset as a whole."""
        return max(
            (mark.number for mark in self.marks.values() if mark.kind == RESET_ALL), default=0
        )

    def last(self, shard: str = "") -> Mark | None:
        """Return the newest generation of this shard; ``None`` before the first."""
        return max(
            (mark for mark in self.marks.values() if mark.shard == shard and mark.kind == RUN),
            key=lambda mark: mark.number,
            default=None,
        )

    def start(self, mark: Mark) -> None:
        """Append the start mark, durably.  Raises ``OSError``.

        Damaged lines are set aside: the new number is above whatever they said.
        """
        if self._unreadable:
            self._set_damaged_lines_aside()
        self._append(
            {
                "v": FORMAT,
                "generation": mark.number,
                "mark": "start",
                "run": mark.run,
                "at": mark.started_at,
                "base": mark.base,
                "shard": mark.shard,
                "facts": dict(mark.facts),
                "kind": mark.kind,
            }
        )
        self.marks[mark.number] = mark

    def end(self, number: int, status: str, counts: Mapping[str, int]) -> None:
        """Append the end mark, durably.  Raises ``OSError``."""
        at = time.time()
        entry = {"v": FORMAT, "generation": number, "mark": "end", "at": at}
        self._append({**entry, "status": status, "counts": dict(counts)})
        mark = self._mark(number)
        mark.status, mark.ended_at, mark.counts = status, at, counts

    def _set_damaged_lines_aside(self) -> None:
        number = 1
        while (aside := self.path.with_name(f"{FILE_NAME}.damaged-{number}")).exists():
            number += 1
        content = self.path.read_bytes()
        aside.write_bytes(content)
        good = [line for line in content.split(b"\n") if _is_whole(line)]
        write_atomically(self.path, b"".join(line + b"\n" for line in good).decode("ascii"))

    def _append(self, entry: Mapping[str, Any]) -> None:
        new = not self.path.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o644)
        with os.fdopen(descriptor, "a+b") as stream:
            # A line that a power cut tore must not swallow this one.
            torn = stream.tell() > 0 and os.pread(descriptor, 1, stream.tell() - 1) != b"\n"
            stream.write((b"\n" if torn else b"") + _sealed(entry) + b"\n")
            stream.flush()
            os.fsync(descriptor)
        if new:
            sync_directory(self.path.parent)


_SEAL_BYTES = len(b'{"crc": "00000000", ')


def _sealed(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry).encode("ascii")
    return b'{"crc": "%08x", ' % crc32(text) + text[1:]


def _is_whole(line: bytes) -> bool:
    try:
        _unsealed(line)
    except ValueError:
        return False
    return True


def _unsealed(line: bytes) -> dict[str, Any]:
    head, text = line[:_SEAL_BYTES], b"{" + line[_SEAL_BYTES:]
    if head != b'{"crc": "%08x", ' % crc32(text):
        raise ValueError("the checksum differs")
    entry: dict[str, Any] = json.loads(text)
    return entry


def missing_shards(marks: Iterable[Mark]) -> list[str]:
    """Return the shards, as ``I/N``, whose newest run did not complete; of the newest N alone."""
    newest: dict[str, Mark] = {}
    for mark in sorted(marks, key=lambda mark: mark.number):
        if mark.shard:
            newest[mark.shard] = mark
    if not newest:
        return []
    last = max(newest.values(), key=lambda mark: mark.number)
    count = int(last.shard.partition("/")[2])
    labels = [f"{index}/{count}" for index in range(1, count + 1)]
    return [
        label
        for label in labels
        if label not in newest or newest[label].status != RunStatus.COMPLETED.value
    ]

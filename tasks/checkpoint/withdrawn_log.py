"""The log of withdrawals beside a store file, for the day on which that file is damaged.

A source that is about to run again is withdrawn in the file of its writer; an older file may still
call it done.  Lost records only make sources run again, lost withdrawals would make the store lie.
So each withdrawal is appended and synced here before it is committed there.  When the file turns
out to be damaged, this log says which sources must not be believed any longer.

One entry: CRC-32 over the rest (u32), generation (u64), number of the commit (u64), length of the
key (u16), key; little-endian.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from tasks.checkpoint.durable import sync_directory

_HEAD = Struct("<IQQH")
_BODY = Struct("<QQH")


class Withdrawal(NamedTuple):
    """A source that was about to run again."""

    key: bytes
    generation: int
    sequence: int
    """The number of the commit that carries it, in the file beside the log."""


class DamagedLogError(Exception):
    """The log itself cannot be read to its end."""


def log_of(path: Path) -> Path:
    """Return the log that belongs to a store file."""
    return path.with_suffix(".withdrawn")


def append(log: Path, withdrawals: Iterable[Withdrawal]) -> None:
    """Append these durably.  Raises ``OSError``; what was appended then may be there in part."""
    new = not log.exists()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "ab", buffering=1 << 20) as stream:
        for entry in withdrawals:
            body = _BODY.pack(entry.generation, entry.sequence, len(entry.key)) + entry.key
            stream.write(crc32(body).to_bytes(4, "little") + body)
        stream.flush()
        os.fsync(stream.fileno())
    if new:
        sync_directory(log.parent)


def read(log: Path, *, torn_end: bool) -> Iterator[Withdrawal]:
    """Yield the entries; nothing if there is no log.  Raises ``DamagedLogError``.

    With ``torn_end`` an incomplete last entry is no damage: the writer was killed while it
    appended, so the source had not been let run.
    """
    try:
        stream = log.open("rb", buffering=1 << 20)
    except FileNotFoundError:
        return
    with stream:
        while head := stream.read(_HEAD.size):
            whole = len(head) == _HEAD.size
            crc, generation, sequence, length = _HEAD.unpack(head) if whole else (0, 0, 0, 0)
            key = stream.read(length)
            if not whole or crc32(key, crc32(head[4:])) != crc:
                if torn_end and not stream.read(1):
                    return
                raise DamagedLogError(f'"{log.name}" is damaged')
            yield Withdrawal(key, generation, sequence)

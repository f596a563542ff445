"""The seal: the last page of a store file that will never change again.

A writer that closes in good order, and a merge, append one page behind the pages that LMDB
counts: what the file holds and a digest of all that stands before.  A file whose seal holds is
exactly what was written, so it is opened without reading it through, and without locks.  A file
without one (its writer was killed), or whose seal does not hold (bits changed, the end is cut
off), is read through in a child process first.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from zlib import crc32

from tasks.checkpoint.record import FORMAT

_PAGE = 4096
_MAGIC = b"holdfast seal 1\n"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store file holds, as its seal or a reading-through tells."""

    entries: int
    lowest: int
    """The lowest and the highest generation of its records; 0 where there are none."""
    highest: int
    sequence: int
    """The number of the last commit; withdrawals that were logged under a later one are missing."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Seal:
    """The seal of a file."""

    contents: Contents
    final: bool
    """Whether the writer is done; a published copy of a live file has a seal that is not."""
    data_bytes: int
    digest: str


def seal_file(path: Path, contents: Contents, *, final: bool = True) -> None:
    """Append the seal and make file and seal durable; nobody may write the file any more.

    A file whose seal holds is left alone; one whose seal is broken gets a new one.
    """
    old = read_seal(path)
    if old is not None and seal_holds(path, old):
        return
    with path.open("r+b") as stream:
        if old is not None:
            stream.truncate(old.data_bytes)
        size = stream.seek(0, os.SEEK_END)
        size += -size % _PAGE
        stream.truncate(size)
        seal = Seal(contents, final, size, _digest(stream.fileno(), size))
        text = json.dumps(asdict(seal)).encode("ascii")
        page = _MAGIC + crc32(text).to_bytes(4, "little") + len(text).to_bytes(4, "little") + text
        stream.seek(size)
        stream.write(page.ljust(_PAGE, b"\0"))
        stream.flush()
        os.fsync(stream.fileno())


def read_seal(path: Path) -> Seal | None:
    """Return the seal of a file; ``None`` if it has none that can be read."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size < 3 * _PAGE:
            return None
        page = os.pread(stream.fileno(), _PAGE, size - _PAGE)
    start = len(_MAGIC) + 8
    length = int.from_bytes(page[start - 4 : start], "little")
    text = page[start : start + length]
    if not page.startswith(_MAGIC) or crc32(text) != int.from_bytes(
        page[start - 8 : start - 4], "little"
    ):
        return None
    values = json.loads(text)
    contents = Contents(**values.pop("contents"))
    seal = Seal(contents, **values)
    return seal if seal.data_bytes == size - _PAGE else None


def seal_holds(path: Path, seal: Seal) -> bool:
    """Whether everything before the seal is what was sealed."""
    with path.open("rb") as stream:
        return _digest(stream.fileno(), seal.data_bytes) == seal.digest


def _digest(descriptor: int, size: int) -> str:
    digest = sha256()
    offset = 0
    while offset < size:
        block = os.pread(descriptor, min(1 << 20, size - offset), offset)
        if not block:
            break
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()

"""Digests of files' contents, computed once for as long as a file does not change."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from tasks.atomic_file import write_atomically

FILE_NAME = "content.jsonl"

_SETTLED_AFTER_NS = 2_000_000_000
"""A file that changed less than this before it was read may change again unseen: file systems
stamp in steps of up to two seconds."""
_MOST_KEPT = 200_000
_DIGEST_BYTES = 16


class FileStamp(NamedTuple):
    """What changes whenever a file's content does."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    """Unlike the time of modification nobody can set it back."""
    inode: int
    device: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> FileStamp:
        """Return the stamp of a file now; raises ``OSError``."""
        status = os.stat(path)  # noqa: PTH116 - hot
        return cls(
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
            status.st_dev,
        )


class ContentChangedError(OSError):
    """A file was written while it was read."""


class ContentHashes:
    """The digests, kept in a file between runs; ``None`` keeps them for this process alone.

    A damaged line of that file costs one reading of one file.  Not thread-safe.
    """

    def __init__(self, directory: Path | None) -> None:
        self._file = None if directory is None else directory / FILE_NAME
        self._known: dict[str, tuple[FileStamp, str]] | None = None
        self._used: set[str] = set()
        self._changed = False
        self.files_read = 0

    def digest(self, path: Path, stamp: FileStamp | None = None) -> str:
        """Return the digest of a file's content in hexadecimal.

        Raises ``OSError`` where it cannot be read, ``ContentChangedError`` where it changes
        meanwhile, or is no longer what ``stamp`` says.
        """
        name = str(path)
        current = FileStamp.of(path)
        if stamp is not None and current != stamp:
            raise ContentChangedError(0, "changed", name)
        known = self._load().get(name)
        if known is not None and known[0] == current:
            self._used.add(name)
            return known[1]
        digest = self._read(path, current)
        if time.time_ns() - max(current.mtime_ns, current.ctime_ns) > _SETTLED_AFTER_NS:
            self._load()[name] = (current, digest)
            self._used.add(name)
            self._changed = True
        return digest

    def _read(self, path: Path, stamp: FileStamp) -> str:
        if not path.is_file():
            raise OSError(0, "is no regular file", str(path))  # opening a pipe would block
        digest = sha256()
        with path.open("rb", buffering=0) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        self.files_read += 1
        if FileStamp.of(path) != stamp:
            raise ContentChangedError(0, "changed while it was read", str(path))
        return digest.hexdigest()[: 2 * _DIGEST_BYTES]

    def _load(self) -> dict[str, tuple[FileStamp, str]]:
        if self._known is None:
            self._known = {}
            if self._file is not None:
                with suppress(OSError):
                    self._known = dict(map(_entry, _whole_lines(self._file.read_bytes())))
        return self._known

    def save(self) -> None:
        """Keep what is known for the next run; what cannot be written is read again then."""
        if self._file is None or self._known is None or not self._changed:
            return
        # What was asked for comes last, and so stays when there is too much.
        order = sorted(self._known, key=lambda name: name in self._used)[-_MOST_KEPT:]
        text = "".join(_line(name, *self._known[name]) for name in order)
        with suppress(OSError):
            write_atomically(self._file, text)
            self._changed = False


def _line(name: str, stamp: FileStamp, digest: str) -> str:
    text = json.dumps([name, digest, *stamp])
    return f"{crc32(text.encode('ascii')):08x} {text}\n"


def _whole_lines(content: bytes) -> list[bytes]:
    return [line[9:] for line in content.split(b"\n") if line[:9] == b"%08x " % crc32(line[9:])]


def _entry(text: bytes) -> tuple[str, tuple[FileStamp, str]]:
    name, digest, *stamp = json.loads(text)
    return name, (FileStamp(*stamp), digest)

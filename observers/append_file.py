"""A file of JSON lines that only grows, one write for each batch."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tasks.errors import HoldfastError

_SEARCH_BYTES = 1 << 16


class AppendError(HoldfastError):
    """A file without which the run could not be told from disk cannot be written."""


class AppendFile:
    """Appends whole lines to ``path``; created at the first write.

    Each ``append`` hands its lines to the operating system in one write: they survive the death
    of this process, whatever kills it, at once; a power cut only after ``sync``.  A line that was
    torn by a power cut or a full disk is cut off before the first new one is appended.

    Every method raises ``AppendError`` where the system refuses, a full disk included.
    """

    def __init__(self, path: Path, *, mode: int = 0o644) -> None:
        self.path = path
        self._mode = mode
        self._descriptor = -1
        self._unsynced = False

    def open(self) -> bool:
        """Open the file for appending; return whether it holds no line yet."""
        try:
            self._descriptor = os.open(
                self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, self._mode
            )
            size = os.fstat(self._descriptor).st_size
            whole = _whole_lines_bytes(self._descriptor, size)
            if whole < size:
                os.ftruncate(self._descriptor, whole)
        except OSError as error:
            raise self._refused(error) from error
        return whole == 0

    @property
    def is_open(self) -> bool:
        """Whether lines can be appended."""
        return self._descriptor >= 0

    def append(self, lines: str) -> None:
        """Hand these lines, each ended by a newline, to the operating system."""
        data = memoryview(lines.encode("ascii"))
        self._unsynced = True
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise self._refused(error) from error

    def sync(self) -> None:
        """Return when every line, and the file's name in its folder, is on the disk."""
        if not self._unsynced:
            return
        try:
            os.fsync(self._descriptor)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise self._refused(error) from error
        self._unsynced = False

    def close(self) -> None:
        """Sync and let go of the file.  Idempotent."""
        if self._descriptor < 0:
            return
        try:
            self.sync()
        finally:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _refused(self, error: OSError) -> AppendError:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "free some space, then start the run again; what was written so far is kept"
        else:
            advice = "the run cannot go on without it; look at the folder's permissions and disk"
        return AppendError(f'cannot write "{self.path}": {reason}; {advice}')


def _whole_lines_bytes(descriptor: int, size: int) -> int:
    """Return where the last whole line ends; lines are JSON objects, so it ends in ``}``."""
    end = size
    while end > 0:
        start = max(0, end - _SEARCH_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"}\n")
        if found >= 0:
            return start + found + 2
        # One byte of overlap: the mark may lie across two blocks.
        end = start + 1 if start else 0
    return 0


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

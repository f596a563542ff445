"""Follows a file that grows, without asking more often than twice a second."""

from __future__ import annotations

import os
import threading
from pathlib import Path

POLL_S = 0.5
"""How often a waiting tail looks at the file's size: one ``stat``, twice a second.

A look costs some 2 µs, works on network file systems, where inotify is silent, and needs no
library; whoever writes in the same process calls ``wake`` and nobody waits for the next look.
"""


class FileTail:
    """Hands out what is appended to ``path``, from byte ``offset`` on.

    The file may not exist yet, and another may take its name (a job's log when the next attempt
    begins): what is left of the old one is handed out first.  ``read`` and ``wait`` belong to one
    thread, ``wake`` and ``stop`` to any.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        """How many bytes of the file have been handed out."""
        self._seen = offset  # the size up to which the file is known
        self._descriptor = -1
        self._awake = threading.Event()
        self._stopped = False

    def read(self, limit_bytes: int = 1 << 20) -> bytes:
        """Return at most so many new bytes; nothing where there are none now.  Never waits.

        Raises ``OSError`` where the file is there but cannot be read.
        """
        if self._descriptor < 0 and not self._open():
            return b""
        data = self._read_on(limit_bytes)
        if data or not self._was_replaced():
            return data
        # The last bytes may have come between that look and the new file's taking the name.
        data = self._read_on(limit_bytes)
        if data:
            return data
        self.close()
        self.offset = self._seen = 0
        return self.read(limit_bytes)

    def give_back(self, count: int) -> None:
        """Have the last ``count`` bytes read once more; they alone are nothing to wake up for."""
        self.offset -= count

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until there may be more to read; return ``False`` when the time is over.

        Returns at once after ``wake`` or ``stop``; ``None`` waits for ever.
        """
        left = float("inf") if timeout_s is None else timeout_s
        while not self._has_more():
            step = min(POLL_S, left)
            if self._awake.wait(step):
                self._awake.clear()
                return True
            left -= step
            if left <= 0:
                return self._has_more()
        return True

    def wake(self) -> None:
        """Have a waiting ``wait`` return now."""
        self._awake.set()

    def stop(self) -> None:
        """Have ``wait`` return, now and always; whoever follows reads once more and ends."""
        self._stopped = True
        self._awake.set()

    @property
    def is_stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopped

    def close(self) -> None:
        """Let go of the file; a later ``read`` opens it again.  Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> bool:
        # A job may put anything under the name of its log: O_NONBLOCK keeps a pipe from
        # holding up the reader, and a link is not followed out of the run.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(self.path, flags)
        except FileNotFoundError:
            return False
        return True

    def _read_on(self, limit_bytes: int) -> bytes:
        data = os.pread(self._descriptor, limit_bytes, self.offset)
        self.offset += len(data)
        self._seen = self.offset
        return data

    def _has_more(self) -> bool:
        if self._stopped:
            return True
        if self._descriptor < 0:
            return self.path.exists()
        return os.fstat(self._descriptor).st_size != self._seen or self._was_replaced()

    def _was_replaced(self) -> bool:
        try:
            named = self.path.lstat()
        except FileNotFoundError:
            return False
        opened = os.fstat(self._descriptor)
        return (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino)

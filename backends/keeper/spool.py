"""The file of completions: the one channel through which ends of jobs leave the keeper.

Each completion is a line of JSON; a batch is one write.  The driver reads the file behind a
wake-up; whoever settles the run after the driver's death reads the same file.
"""

from __future__ import annotations

import os
from collections.abc import Callable

FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 5.0


class Spool:
    """Appends lines; what a full disk refuses stays in memory and is tried again.

    ``trouble`` is told once when writing begins to fail, and once when it works again.
    """

    def __init__(self, path: str, trouble: Callable[[str], None]) -> None:
        self.path = path
        self._trouble = trouble
        self._waiting = bytearray()
        self._in_trouble = False
        self._retry_s = FIRST_RETRY_S
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o644)
        self._mend_torn_end()

    def append(self, line: bytes) -> None:
        """Add one line, without its newline, to the next write."""
        self._waiting += line
        self._waiting += b"\n"

    @property
    def waiting(self) -> bool:
        """Whether something is not in the file yet."""
        return bool(self._waiting)

    @property
    def in_trouble(self) -> bool:
        """Whether the last write failed."""
        return self._in_trouble

    def flush(self) -> bool:
        """Write what waits; whether any of it reached the file.

        After a failure the caller tries again in ``retry_in_s``.  A line may be torn at the end
        of the file meanwhile: readers stop at the last newline.
        """
        if not self._waiting:
            return False
        data = bytes(self._waiting)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            if not self._in_trouble:
                self._in_trouble = True
                self._trouble(
                    f'cannot write "{self.path}": {error.strerror}; completions are kept in '
                    "memory until it works again: make room on the disk"
                )
        else:
            self._recovered()
        del self._waiting[:written]
        return written > 0

    def retry_in_s(self) -> float:
        """Return how long to wait before the next try; grows from call to call."""
        now = self._retry_s
        self._retry_s = min(self._retry_s * 2, LONGEST_RETRY_S)
        return now

    def take_waiting(self) -> str:
        """Return what never reached the file, for another way to the driver.

        It continues the file exactly where that ends, which may be within a line.
        """
        rest = self._waiting.decode("utf-8")
        self._waiting.clear()
        return rest

    def _mend_torn_end(self) -> None:
        """Close the line that an earlier keeper of the run was killed in."""
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            self._waiting += b"\n"

    def _recovered(self) -> None:
        if self._in_trouble:
            self._in_trouble = False
            self._retry_s = FIRST_RETRY_S
            self._trouble(f'"{self.path}" can be written again; no completion was lost')

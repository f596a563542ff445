"""Evidence that it was the kernel's out-of-memory killer that killed a job."""

from __future__ import annotations

import os
import time

_FRESH_S = 1.0


class OutOfMemoryKills:
    """How often the kernel has killed for memory on this machine, from ``/proc/vmstat``.

    A job that died of SIGKILL while the number grew is said to have run out of memory.
    """

    def __init__(self) -> None:
        self._read_at = 0.0
        self._count = 0
        try:
            self._descriptor: int | None = os.open("/proc/vmstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = None

    def recent_count(self) -> int:
        """Return the number as it was at most a second ago: cheap enough for every start."""
        if time.monotonic() - self._read_at > _FRESH_S:
            self.count()
        return self._count

    def count(self) -> int:
        """Return the number now; 0 where the kernel does not tell."""
        self._read_at = time.monotonic()
        if self._descriptor is not None:
            for line in os.pread(self._descriptor, 1 << 16, 0).splitlines():
                if line.startswith(b"oom_kill "):
                    self._count = int(line.split()[1])
        return self._count

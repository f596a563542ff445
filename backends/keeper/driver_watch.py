"""Whether the driver lives, as the kernel tells it.

A socket's end of file comes too late where a forked child of the driver holds it; a descriptor
of the process itself is readable the moment it dies.  A driver that is merely stopped lives.
"""

from __future__ import annotations

import os
import select

from backends.process_tree import Identity, read_process


class DriverWatch:
    """One driver, by pid and start time."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.descriptor: int | None = None
        """Readable when the driver is dead; ``None`` where the platform has no such thing."""
        try:
            self.descriptor = os.pidfd_open(identity[0])
        except (OSError, AttributeError):
            return
        if self._is_another():
            self.close()

    def _is_another(self) -> bool:
        process = read_process(self.identity[0])
        return process is None or process.start_time != self.identity[1]

    def is_dead(self) -> bool:
        """Whether it is gone; a zombie is, its parent may never fetch it."""
        if self.descriptor is not None:
            return bool(select.select([self.descriptor], [], [], 0)[0])
        process = read_process(self.identity[0])
        return process is None or process.start_time != self.identity[1] or not process.is_alive

    def close(self) -> None:
        """Let go of the descriptor."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

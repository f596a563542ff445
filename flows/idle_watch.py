"""Counts what a flow run still has to wait for, and wakes who waits for the last of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial

from flows.latch import Latch


class IdleWatch:
    """Counts up and down from any thread; ``wait`` returns when the count is 0."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        # Each list operation is one step of the interpreter: a waiter that is struck by an
        # exception leaves at most a waker behind that wakes nobody.
        self._wakers: list[Callable[[], None]] = []

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to wait for."""
        return not self._count

    def expect(self, more: int) -> None:
        """Wait for so many more; a negative number have ended."""
        with self._lock:
            self._count += more
        while self.is_idle and self._wakers:
            try:
                waker = self._wakers.pop()
            except IndexError:
                return
            try:
                waker()
            except RuntimeError:
                pass  # its event loop is closed: nobody waits there any more

    def wait(self) -> None:
        """Wait until nothing is left; an exception may interrupt it at any moment."""
        while not self.is_idle:
            latch = Latch()
            self._wakers.append(latch.open)
            if not self.is_idle:
                latch.wait()

    async def wait_async(self) -> None:
        """Do the same without keeping the event loop."""
        loop = asyncio.get_running_loop()
        while not self.is_idle:
            idle = asyncio.Event()
            self._wakers.append(partial(_wake_in, loop, idle))
            if not self.is_idle:
                await idle.wait()


def _wake_in(loop: asyncio.AbstractEventLoop, idle: asyncio.Event) -> None:
    loop.call_soon_threadsafe(idle.set)

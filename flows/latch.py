"""Waiting that an exception may interrupt at any instruction without harm to the other side.

Prefect's TerminationSignal and KeyboardInterrupt strike the main thread wherever it is.  The
classes of ``threading`` written in Python (``Event``, ``Condition``, futures) can be struck
between taking their lock and noting it; the thread that wants to wake the waiter then hangs for
ever.  A bare lock has no such moment.
"""

from __future__ import annotations

import asyncio
import threading
import time

_LOOK_UP_EVERY_S = 0.5
"""How often a waiter looks up for what no signal tells."""


class Latch:
    """Opened once by one thread, waited for by one other."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let the waiter go.  To be called once."""
        self._lock.release()

    def wait(self, timeout_s: float | None = None, *, heed_task: bool = True) -> bool:
        """Wait until it is open; returns whether it is.

        A signal's exception interrupts the main thread at once.  What is thrown into a thread
        in another way (Prefect does so where a flow's time is over and no alarm is free), or
        (unless ``heed_task`` is false) the cancellation of the asyncio task that keeps its loop
        here, interrupts within half a second: nothing wakes a thread for them.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = _LOOK_UP_EVERY_S if deadline is None else deadline - time.monotonic()
            if self._lock.acquire(timeout=max(min(left, _LOOK_UP_EVERY_S), 0.0)):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            if heed_task:
                _raise_if_task_is_cancelled()


def _raise_if_task_is_cancelled() -> None:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return  # no loop runs here
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

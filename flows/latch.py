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
"""How often a waiter looks up that cannot be woken by a signal."""


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

        In the main thread a signal's exception interrupts it at once; elsewhere an exception
        that is thrown into the thread, or (unless ``heed_task`` is false) the cancellation of
        the asyncio task that blocks its loop here, does so within half a second.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        in_slices = _must_look_up()
        while True:
            left = threading.TIMEOUT_MAX if deadline is None else deadline - time.monotonic()
            pause = min(left, _LOOK_UP_EVERY_S) if in_slices else left
            if self._lock.acquire(timeout=max(pause, 0.0)):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            if heed_task:
                _raise_if_task_is_cancelled()


def _must_look_up() -> bool:
    return threading.current_thread() is not threading.main_thread() or _task() is not None


def _task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _raise_if_task_is_cancelled() -> None:
    task = _task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

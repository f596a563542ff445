"""A thread that does what must not be torn: no signal's exception ever strikes it."""

from __future__ import annotations

import _thread
import contextvars
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

from flows.latch import Latch
from tasks.errors import StateError

_T = TypeVar("_T")
_log = logging.getLogger("holdfast.task_runner")


class Reply(Generic[_T]):
    """The answer to one call: a value or an exception."""

    __slots__ = ("_answered", "_error", "_latch", "_value")

    def __init__(self) -> None:
        self._answered = False
        self._latch = Latch()
        self._value: _T | None = None
        self._error: BaseException | None = None

    @property
    def answered(self) -> bool:
        """Whether there is an answer."""
        return self._answered

    def give(self, value: _T) -> None:
        """Answer with a value."""
        self._value = value
        self._answered = True
        self._latch.open()

    def fail(self, error: BaseException) -> None:
        """Answer with an exception."""
        self._error = error
        self._answered = True
        self._latch.open()

    def wait_for_it(self) -> None:
        """Wait for the answer without taking it.  May be called again when interrupted."""
        # An exception may strike just after the latch was passed: the flag tells, not the latch.
        if not self._answered:
            self._latch.wait(heed_task=False)

    def wait(self) -> _T:
        """Wait for the answer; returns it or raises it."""
        self.wait_for_it()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # given: the latch is open


class ServiceThread:
    """Runs calls one after another, in the context of whoever made it (Prefect's settings)."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._door = threading.Lock()
        self._stopped = False
        context = contextvars.copy_context()

        def start() -> None:
            threading.Thread(target=context.run, args=(self._work,), name=name, daemon=True).start()

        # The main thread must not be struck inside Thread.start, which would leave the new
        # thread waiting for a lock that nobody holds any more.
        _thread.start_new_thread(start, ())

    def post(self, action: Callable[[], object]) -> None:
        """Have the action run soon; what it raises is logged.

        Raises ``StateError`` when the thread was stopped.
        """
        with self._door:
            if self._stopped:
                raise StateError("the flow run has left its task runner")
            self._calls.put(action)

    def ask(self, action: Callable[[], _T]) -> Reply[_T]:
        """Have the action run soon and return the reply that will hold its result."""
        reply: Reply[_T] = Reply()

        def answer() -> None:
            try:
                value = action()
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                reply.fail(error)
            else:
                reply.give(value)

        self.post(answer)
        return reply

    def call(self, action: Callable[[], _T]) -> _T:
        """Run the action and return its result or raise what it raised.

        What interrupts the wait leaves the action running.
        """
        return self.ask(action).wait()

    def stop(self) -> None:
        """End the thread after what was posted before.  Idempotent."""
        with self._door:
            self._stopped = True
            self._calls.put(None)

    def _work(self) -> None:
        while (action := self._calls.get()) is not None:
            try:
                action()
            except Exception:  # noqa: BLE001 - the next step must not suffer for it
                _log.exception("a step of the task runner failed")

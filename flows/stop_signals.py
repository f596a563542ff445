"""SIGINT, SIGTERM and SIGHUP end a run gracefully; the second of them ends it at once."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LEAVE = b"\0"
"""No signal has this number."""


class StopSignals:
    """While entered, the stop signals call ``stop(name, again)`` instead of raising.

    Python and Prefect raise exceptions at any instruction of the main thread; a run must not
    be torn in the middle of its own clean-up.  ``stop`` is called in a thread of its own: the
    kernel may deliver a signal to any thread, and Python's own handlers would then wait until the
    main thread, which waits for the run, does something again.

    Handlers belong to the main thread: entered in another one this does nothing, and stopping is
    left to whoever runs that thread.
    """

    def __init__(self, stop: Callable[[str, bool], None]) -> None:
        self._stop = stop
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_wakeup = -1
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.first: signal.Signals | None = None
        """The signal that came first; ``None`` while there was none."""

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._thread = threading.Thread(target=self._serve, name="holdfast-signals", daemon=True)
        self._thread.start()
        self._previous_wakeup = signal.set_wakeup_fd(
            self._writer.fileno(), warn_on_full_buffer=False
        )
        for number in _SIGNALS:
            # What is ignored (nohup, a background job of a script) stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, _seen_elsewhere)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._reader is None or self._writer is None or self._thread is None:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        signal.set_wakeup_fd(self._previous_wakeup)
        self._writer.setblocking(True)
        self._writer.send(_LEAVE)
        self._thread.join()
        self._reader.close()
        self._writer.close()
        self._reader = self._writer = self._thread = None

    def _serve(self) -> None:
        """Act on each signal as the kernel reports it, whichever thread it struck."""
        assert self._reader is not None
        while True:
            for number in self._reader.recv(64):
                if number == _LEAVE[0]:
                    return
                if number in _SIGNALS:
                    self._act(signal.Signals(number))

    def _act(self, number: signal.Signals) -> None:
        again = self.first is not None
        if not again:
            self.first = number
        self._stop(number.name, again)


def _seen_elsewhere(number: int, frame: FrameType | None) -> None:
    """A handler, so that nothing else happens; the signal's number is in the socket already."""

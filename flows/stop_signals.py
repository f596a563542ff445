"""SIGINT, SIGTERM and SIGHUP end a run gracefully; the second of them ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """While entered, the stop signals call ``stop(name, again)`` instead of raising.

    Python and Prefect raise exceptions at any instruction of the main thread; a run must not
    be torn in the middle of its own clean-up.  Handlers belong to the main thread: entered in
    another one this does nothing, and stopping is left to whoever runs that thread.
    """

    def __init__(self, stop: Callable[[str, bool], None]) -> None:
        self._stop = stop
        self._previous: dict[signal.Signals, Any] = {}
        self.first: signal.Signals | None = None
        """The signal that came first; ``None`` while there was none."""

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # SIGHUP that is ignored (nohup) stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.first is not None
        if not again:
            self.first = signal.Signals(number)
        # Locks that the interrupted code holds must not be waited for here.
        threading.Thread(
            target=self._stop, args=(signal.Signals(number).name, again), daemon=True
        ).start()

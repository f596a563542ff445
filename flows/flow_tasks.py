"""The plain Prefect tasks of a flow run: which still run, which failed without anybody looking."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture

from flows.prefect_private import was_looked_at


class FlowTasks:
    """Watches the futures of plain tasks; keeps none that completed.

    ``all_ended`` is called when the last of them has ended, from the thread that ran it.
    """

    def __init__(self, all_ended: Callable[[], None]) -> None:
        self._all_ended = all_ended
        self._lock = threading.Lock()
        self._running = 0
        self._failed: list[tuple[str, PrefectConcurrentFuture[Any]]] = []

    @property
    def running(self) -> int:
        """How many have not ended."""
        return self._running

    def watch(self, name: str, future: PrefectConcurrentFuture[Any]) -> None:
        """Count a task that was just submitted."""
        with self._lock:
            self._running += 1
        future.add_done_callback(lambda _: self._ended(name, future))

    def unseen_failures(self) -> list[str]:
        """Return, in words, each task that did not complete and that nobody has looked at."""
        return [
            f'task "{name}" {_how_it_ended(future)}'
            for name, future in self._failed
            if not was_looked_at(future)
        ]

    def _ended(self, name: str, future: PrefectConcurrentFuture[Any]) -> None:
        failed = not _completed(future)
        with self._lock:
            self._running -= 1
            if failed:
                self._failed.append((name, future))
            last = not self._running
        if last:
            self._all_ended()


def _completed(future: PrefectConcurrentFuture[Any]) -> bool:
    state = _state(future)
    return state is not None and state.is_completed()


def _how_it_ended(future: PrefectConcurrentFuture[Any]) -> str:
    state = _state(future)
    return "was never run" if state is None else f"ended in state {state}"


def _state(future: PrefectConcurrentFuture[Any]) -> State[Any] | None:
    """Return the final state without waiting, as looking would; ``None`` if it never ran."""
    try:
        state = future.wrapped_future.result(timeout=0)
    except BaseException:  # noqa: BLE001 - cancelled before it ran, or torn out of its run
        return None
    return state if isinstance(state, State) else None

"""The plain Prefect tasks of a flow run: which still run, which failed without anybody looking."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture

from flows.idle_watch import IdleWatch
from flows.prefect_private import was_looked_at


class FlowTasks:
    """Watches the futures of plain tasks, which ``idle`` counts; keeps none that completed."""

    def __init__(self, idle: IdleWatch) -> None:
        self._idle = idle
        self._failed: list[tuple[str, PrefectConcurrentFuture[Any]]] = []

    def watch(self, name: str, future: PrefectConcurrentFuture[Any]) -> None:
        """Count a task that was just submitted."""
        self._idle.expect(1)
        future.add_done_callback(lambda _: self._ended(name, future))

    def unseen_failures(self) -> list[str]:
        """Return, in words, each task that did not complete and that nobody has looked at."""
        return [
            f'task "{name}" {_how_it_ended(future)}'
            for name, future in self._failed
            if not was_looked_at(future)
        ]

    def _ended(self, name: str, future: PrefectConcurrentFuture[Any]) -> None:
        if not _completed(future):
            self._failed.append((name, future))
        self._idle.expect(-1)


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

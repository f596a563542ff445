"""Everything that this project uses of Prefect without Prefect promising it; nothing elsewhere.

``tests/flows/test_prefect_private.py`` says, for each name here, what is expected of it, so that
a new version of Prefect fails there, with a sentence, before it fails somewhere else.
"""

from __future__ import annotations

import abc
import asyncio
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from prefect._flow_run_suspension import raise_if_flow_run_suspension_requested
from prefect._internal.concurrency.cancellation import CancelledError
from prefect._internal.control_listener import get_intent
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import (
    OrchestrationResult,
    SetStateStatus,
    StateRejectDetails,
)
from prefect.futures import PrefectConcurrentFuture, PrefectTaskRunFuture
from prefect.results import ResultRecord  # type: ignore[attr-defined]  # not in its __all__
from prefect.utilities.annotations import allow_failure
from prefect.utilities.engine import resolve_to_final_result

_R = TypeVar("_R")


class FutureWithFinalState(PrefectTaskRunFuture[_R], abc.ABC, Generic[_R]):
    """A future whose final state ``prefect.futures.wait`` and ``as_completed`` can read.

    They look at the attribute ``_final_state``; here it is asked for, not kept.
    """

    def __init__(self) -> None:
        """Set nothing that Prefect's own constructor would."""

    @abc.abstractmethod
    def final_state(self) -> State[_R] | None:
        """Return the state of an ended task run; ``None`` before its end."""

    @property
    def _final_state(self) -> State[_R] | None:  # type: ignore[override]
        return self.final_state()


def asks_for_a_task_that_will_not_run() -> bool:
    """Whether the caller's caller is Prefect's engine that resolves the input of a task.

    A task whose input failed is not run, and a flow that calls it directly gets ``None`` for an
    answer: nobody has looked at the failure then, unless ``allow_failure`` says that it may be.
    """
    frame = sys._getframe(2)
    if frame.f_code is not resolve_to_final_result.__code__:
        return False
    return not isinstance(frame.f_locals["context"].get("annotation"), allow_failure)


def was_looked_at(future: PrefectConcurrentFuture[Any]) -> bool:
    """Whether anybody has waited for this future of Prefect's own, or asked for its result."""
    return future._final_state is not None


def supervisor_decides() -> bool:
    """Whether the SIGTERM that ends this process leaves the flow run's next state to others.

    Prefect's supervisor then starts the flow run again elsewhere.
    """
    return get_intent() in ("reschedule", "relinquish")


def own_server_pid() -> int | None:
    """Return the pid of the server that Prefect has started for this process, if it did.

    It outlives a process that is killed: Prefect ends it at the end of the interpreter.
    """
    # Not imported: its code is heavy, and where it has started a server it is there already.
    module = sys.modules.get("prefect.server.api.server")
    if module is None:
        return None
    servers = module.SubprocessASGIServer._instances.values()
    pids = [server.server_process.pid for server in servers if server.server_process is not None]
    return pids[0] if pids else None


def engine_owns_cancellation(flow_run: FlowRun) -> bool:
    """Whether this process calls the cancellation hooks of its flow runs.

    Prefect's runner calls those of the flow run that it has started; subflows are this
    process's own.
    """
    mine = os.environ.get("PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS", "true")
    return flow_run.parent_task_run_id is not None or mine.lower() == "true"


def is_timeout(error: BaseException) -> bool:
    """Whether an exception is what Prefect throws into a flow whose time is over."""
    return isinstance(error, CancelledError)


raise_if_suspended = raise_if_flow_run_suspension_requested
"""Raises ``Pause`` where the flow run of the calling context was suspended."""


def exception_of(state: State[Any]) -> BaseException | None:
    """Return the exception that a flow raised, from the state that tells of it."""
    data = state.data
    if isinstance(data, ResultRecord):
        data = data.result
    return data if isinstance(data, BaseException) else None


class Gatekeeper(Protocol):
    """Who decides when a flow run may enter a final state, and which."""

    def before(self, state: State[Any]) -> State[Any] | None:
        """Return when the flow run may enter the state.

        What it raises reaches the flow's engine, as if the flow itself had raised it.  Returns a
        state that the flow run has entered instead, or ``None``.
        """

    async def before_async(self, state: State[Any]) -> State[Any] | None:
        """Do the same for a flow that is async."""


_gates: weakref.WeakKeyDictionary[Any, dict[UUID, Gatekeeper]] = weakref.WeakKeyDictionary()


def guard_final_states(client: Any, flow_run_id: UUID, keeper: Gatekeeper) -> None:
    """Have ``keeper`` asked before the engine that owns ``client`` ends this flow run.

    Prefect's engine tells the server that a flow run is over *before* it leaves the task runner,
    so a flow would read Completed while its jobs run, or fail.  All its states go through
    ``client.set_flow_run_state``; that method is wrapped, on this one client alone.
    """
    if client not in _gates:
        _gates[client] = {}
        keepers = _gates[client]
        original = client.set_flow_run_state
        wrap = _guarded_async if asyncio.iscoroutinefunction(original) else _guarded
        client.set_flow_run_state = wrap(original, keepers)
    _gates[client][flow_run_id] = keeper


def _guarded(
    original: Callable[..., OrchestrationResult[Any]], keepers: dict[UUID, Gatekeeper]
) -> Callable[..., OrchestrationResult[Any]]:
    def set_flow_run_state(
        flow_run_id: UUID | str, state: State[Any], force: bool = False
    ) -> OrchestrationResult[Any]:
        key = UUID(str(flow_run_id))
        keeper = keepers.get(key) if state.is_final() else None
        if keeper is not None:
            instead = keeper.before(state)
            keepers.pop(key, None)
            if instead is not None:
                return _already(instead)
        return original(flow_run_id, state, force=force)

    return set_flow_run_state


def _guarded_async(
    original: Callable[..., Any], keepers: dict[UUID, Gatekeeper]
) -> Callable[..., Any]:
    async def set_flow_run_state(
        flow_run_id: UUID | str, state: State[Any], force: bool = False
    ) -> OrchestrationResult[Any]:
        key = UUID(str(flow_run_id))
        keeper = keepers.get(key) if state.is_final() else None
        if keeper is not None:
            instead = await keeper.before_async(state)
            keepers.pop(key, None)
            if instead is not None:
                return _already(instead)
        result: OrchestrationResult[Any] = await original(flow_run_id, state, force=force)
        return result

    return set_flow_run_state


def _already(state: State[Any]) -> OrchestrationResult[Any]:
    """Answer as the server does when a flow run goes into another state than was proposed."""
    reason = f"the flow run is {state.name} already"
    return OrchestrationResult(
        state=state, status=SetStateStatus.REJECT, details=StateRejectDetails(reason=reason)
    )

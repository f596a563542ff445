"""What ends a flow's jobs before their time, read from what ends the flow."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, Pause, TerminationSignal

from flows.prefect_private import exception_of, is_timeout
from tasks.status import RunStatus


@dataclass(frozen=True, slots=True)
class Stop:
    """Why jobs are to be killed, and who asked."""

    by: str
    reason: str
    grace_s: float | None = None
    """Between SIGTERM and SIGKILL; ``None``: each job's own."""
    is_cancel: bool = False
    """Whether somebody wants the flow run cancelled; otherwise the flow ends by itself."""


def stop_before(state: State[Any]) -> Stop | None:
    """Return why jobs that still run are killed before a flow run enters this final state.

    ``None``: they are waited for.  A flow that returns failed states has not raised: what it
    has started may end.
    """
    error = exception_of(state)
    if state.name == "TimedOut":
        return Stop("flow", state.message or "the flow exceeded its timeout")
    if error is not None:
        return Stop("flow", f"the flow raised {type(error).__name__}")
    if state.is_cancelled() or state.is_crashed():
        return Stop("flow", f"the flow ended in state {state.name}")
    return None


def stop_by(error: BaseException) -> Stop:
    """Return the stop that an exception means which tears a flow out of its task runner."""
    if isinstance(error, TerminationSignal):
        return _cancelled_by(signal.Signals(error.signal).name)
    if isinstance(error, KeyboardInterrupt):
        return _cancelled_by("SIGINT")
    if is_timeout(error):
        return Stop("flow", "the flow exceeded its timeout")
    if isinstance(error, asyncio.CancelledError):
        return Stop("asyncio", "the flow's asyncio task was cancelled", is_cancel=True)
    if isinstance(error, Pause | Abort):
        return Stop("Prefect", f"Prefect took the flow run out of work ({type(error).__name__})")
    return Stop("flow", f"the flow was left by {type(error).__name__}")


def verdict_for(error: BaseException) -> RunStatus:
    """Return how a run ends whose flow is torn out of its task runner by this exception."""
    interrupted = stop_by(error).is_cancel or isinstance(error, Pause | Abort)
    return RunStatus.CANCELLED if interrupted else RunStatus.CRASHED


def verdict_of(state: State[Any] | None) -> RunStatus:
    """Return how a run ends whose flow run enters this state."""
    if state is None:
        return RunStatus.CRASHED
    return _VERDICTS.get(state.type.value, RunStatus.FAILED)


_VERDICTS = {
    "COMPLETED": RunStatus.COMPLETED,
    "CANCELLED": RunStatus.CANCELLED,
    "CRASHED": RunStatus.CRASHED,
}


def _cancelled_by(signal_name: str) -> Stop:
    return Stop(signal_name, f"stopped by {signal_name}", is_cancel=True)

"""The state of a flow run, read and forced over plain HTTP.

A run forces its own final state: Prefect leaves a flow run that was cancelled from outside in
Cancelling, and one whose process was killed in Running, for ever.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from observers.prefect_api import PrefectApi, PrefectConnection, PrefectError, ServerAway
from observers.prefect_events import END_TYPES
from tasks.prefect_states import PrefectState
from tasks.sanitise import plain_text
from tasks.status import RunStatus

_log = logging.getLogger("holdfast.prefect")

TIMEOUT_S = 10.0
WATCH_EVERY_S = 2.0
_MESSAGE_CHARACTERS = 2_000
_BUSY_PAUSE_S = 0.5

RUN_STATES: Mapping[RunStatus, PrefectState] = MappingProxyType(
    {
        RunStatus.COMPLETED: PrefectState("COMPLETED", "Completed"),
        RunStatus.FAILED: PrefectState("FAILED", "Failed"),
        RunStatus.CANCELLED: PrefectState("CANCELLED", "Cancelled"),
        RunStatus.CRASHED: PrefectState("CRASHED", "Crashed"),
    }
)
"""What a flow run is said to be when its run has ended."""


@dataclass(frozen=True, slots=True)
class FlowRunState:
    """The state of a flow run as the server has it."""

    type: str
    name: str
    message: str = ""

    @property
    def is_end(self) -> bool:
        """Whether the flow run is over."""
        return self.type in END_TYPES

    @property
    def is_cancel(self) -> bool:
        """Whether somebody asked for the flow run to be cancelled, or it is."""
        return self.type in ("CANCELLING", "CANCELLED")


def flow_run_state(
    api_url: str,
    headers: Mapping[str, str] | None,
    flow_run_id: str,
    *,
    verify: bool | str = True,
    timeout_s: float = TIMEOUT_S,
) -> FlowRunState | None:
    """Return the state of a flow run; ``None`` if the server has no such flow run.

    Raises ``PrefectError`` where the server does not answer or refuses.
    """
    connection = PrefectConnection(api_url, dict(headers or {}), verify)
    api = PrefectApi(connection, timeout_s=timeout_s)
    try:
        return read_state(api, flow_run_id)
    finally:
        api.close()


def force_flow_run_state(
    api_url: str,
    headers: Mapping[str, str] | None,
    flow_run_id: str,
    state_type: str,
    name: str,
    message: str = "",
    *,
    verify: bool | str = True,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Set the state of a flow run whatever it is now, which frees the slots that it holds.

    A server that answers but is busy is asked again for ``timeout_s``.  Raises ``PrefectError``
    where it does not answer, stays busy or refuses.
    """
    connection = PrefectConnection(api_url, dict(headers or {}), verify)
    api = PrefectApi(connection, timeout_s=timeout_s)
    try:
        force_state(api, flow_run_id, PrefectState(state_type, name), message, patience_s=timeout_s)
    finally:
        api.close()


def read_state(api: PrefectApi, flow_run_id: str) -> FlowRunState | None:
    """Return the state of a flow run; ``None`` if the server has no such flow run."""
    flow_run = api.flow_run(flow_run_id)
    if flow_run is None:
        return None
    state = flow_run.get("state") or {}
    return FlowRunState(
        str(state.get("type") or ""), str(state.get("name") or ""), str(state.get("message") or "")
    )


def force_state(
    api: PrefectApi,
    flow_run_id: str,
    state: PrefectState,
    message: str,
    *,
    patience_s: float = TIMEOUT_S,
) -> None:
    """Set the state of a flow run, whatever it is now; a busy server is asked for so long."""
    text = plain_text(message[:_MESSAGE_CHARACTERS])
    deadline = time.monotonic() + patience_s
    while True:
        try:
            api.force_flow_run_state(flow_run_id, state.type, state.name, text)
        except ServerAway as away:
            if not away.is_busy or time.monotonic() >= deadline:
                raise
            time.sleep(_BUSY_PAUSE_S)
        else:
            return


def watch_for_cancel(
    api_url: str,
    headers: Mapping[str, str] | None,
    flow_run_id: str,
    stop: threading.Event,
    *,
    verify: bool | str = True,
    every_s: float = WATCH_EVERY_S,
) -> FlowRunState | None:
    """Wait until somebody asks for the flow run to be cancelled, and return its state then.

    One GET every ``every_s`` seconds, on one connection; it keeps asking through an outage of
    the server.  Returns ``None`` when ``stop`` is set, which takes effect at once between two
    questions, or when the flow run was deleted.
    """
    connection = PrefectConnection(api_url, dict(headers or {}), verify)
    api = PrefectApi(connection, timeout_s=TIMEOUT_S)
    complained = False
    try:
        while not stop.wait(every_s):
            try:
                state = read_state(api, flow_run_id)
            except PrefectError as error:
                if not complained:
                    _log.info("cannot ask whether the flow run was cancelled: %s", error)
                complained = True
                continue
            if state is None or state.is_cancel:
                return state
        return None
    finally:
        api.close()

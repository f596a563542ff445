"""A flow's own ``on_cancellation`` hooks, where a runner of ours cancels the flow run."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.utilities.asyncutils import run_coro_as_sync

from flows.prefect_private import engine_owns_cancellation

_log = logging.getLogger("holdfast.task_runner")


def call_cancellation_hooks(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Call the hooks, unless the process that started this one calls them; they may be async.

    Prefect's engine calls them on its way through Cancelling only, which a flow run that ends
    Cancelled in place of another state does not take.  What a hook raises is logged.
    """
    if not engine_owns_cancellation(flow_run):
        return
    for hook in flow.on_cancellation_hooks or ():
        try:
            result = hook(flow, flow_run, state)
            if isinstance(result, Coroutine):
                run_coro_as_sync(result)
        except Exception:  # noqa: BLE001 - it is somebody else's
            _log.exception("an on_cancellation hook of flow %s failed", flow.name)

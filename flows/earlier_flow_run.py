"""The flow run of a dead driver, when another driver goes on with its run under a new one."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from observers.prefect_api import PrefectError
from observers.prefect_state import force_flow_run_state

_log = logging.getLogger("holdfast.flow")


def end_earlier_flow_run(
    flow_run_id: str, successor: str, api_url: str, headers: Mapping[str, str], verify: bool | str
) -> None:
    """Set it Crashed and say where the run goes on; what fails is logged."""
    message = f"its process died; the run goes on as flow run {successor}"
    try:
        force_flow_run_state(
            api_url, headers, flow_run_id, "CRASHED", "Crashed", message, verify=verify
        )
    except PrefectError as error:
        _log.warning("the earlier flow run %s was not set Crashed: %s", flow_run_id, error)

"""Reporting a run from disk: what a live report did not bring to the Prefect server."""

from __future__ import annotations

from pathlib import Path

from flows.prefect_settings import connection
from flows.run_directory import RunFile
from flows.run_settings import DEFAULT_REPORT_LIMIT
from observers.prefect_api import PrefectApi, PrefectConnection
from observers.report_sync import SyncResult, sync


def report(directory: Path, file: RunFile, api_url: str, *, wait_s: float) -> SyncResult:
    """Send what the server at ``api_url`` lacks of the run, and end its flow run there.

    Gives up after ``wait_s`` without one more arrival.  A run that died while its flow run was
    being made is found by its name.  Raises as ``observers.report_sync.sync`` does.
    """
    _, headers, verify = connection(api_url)
    flow_run_id = file.flow_run_id
    if flow_run_id is None and file.prefect:
        api = PrefectApi(PrefectConnection(api_url, headers, verify))
        try:
            flow_run_id = api.flow_run_called(file.run)
        finally:
            api.close()
    limit = DEFAULT_REPORT_LIMIT if file.report_limit is None else file.report_limit
    return sync(
        directory,
        api_url,
        headers,
        flow_run_id=flow_run_id,
        verify=verify,
        wait_s=wait_s,
        limit=limit,
    )

"""Sends what a Prefect server lacks of a run, from disk alone."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from observers.prefect_api import PrefectConnection
from observers.prefect_state import RUN_STATES, force_state, read_state
from observers.report_cursor import ReportCursor
from observers.report_plan import REPORT_LIMIT, ReportPlan
from observers.run_report import RunReport
from tasks.errors import StateError, UnknownError
from tasks.status import RunStatus

SYNC_WAIT_S = 60.0
_LEAST_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What became of a ``sync``."""

    flow_run_id: str
    api_url: str
    task_runs: int
    """Task runs that the run has on the server when all is told."""
    sent: int
    """Events that were sent now."""
    missing: int
    """Task runs that have ended and of which the server has not confirmed it."""
    state_before: str
    """The name of the flow run's state on the server before."""
    state: str
    """Its name now."""


def sync(
    directory: Path,
    api_url: str,
    headers: Mapping[str, str] | None = None,
    *,
    flow_run_id: str | None = None,
    verify: bool | str = True,
    wait_s: float = SYNC_WAIT_S,
    limit: int = REPORT_LIMIT,
) -> SyncResult:
    """Send what the server lacks of the run in ``directory``, and end its flow run.

    The server is asked first what it has.  ``wait_s`` without one more arrival gives up waiting.
    A flow run that is not over on the server, while the run is, gets the run's final state.
    ``flow_run_id`` overrides what the directory says.

    Raises ``StateError`` for a run that was never under Prefect, ``UnknownError`` for a flow run
    that the server does not have, ``PrefectError`` for a server that does not answer.
    """
    flow_run = flow_run_id or reported_flow_run(directory)
    if flow_run is None:
        raise StateError(
            f'run "{directory.name}" was started without Prefect; there is nothing to send it to'
        )
    connection = PrefectConnection(api_url, dict(headers or {}), verify)
    report = RunReport(directory, flow_run, connection, limit=limit, check_first=True)
    try:
        before = read_state(report.api, flow_run)
        if before is None:
            raise UnknownError(
                f'the Prefect server at "{api_url}" has no flow run "{flow_run}"; it was deleted '
                "there, or PREFECT_API_URL points to another server than the run's"
            )
        _send_all(report, wait_s)
        after = before.name
        status = ended_status(directory, report.plan)
        if status is not None and not before.is_end:
            state = RUN_STATES[status]
            force_state(report.api, flow_run, state, _message(report.plan.run_counts))
            after = state.name
        return SyncResult(
            flow_run_id=flow_run,
            api_url=api_url,
            task_runs=report.status.task_runs,
            sent=report.sender.sent,
            missing=report.status.unconfirmed,
            state_before=before.name,
            state=after,
        )
    finally:
        report.close()


def reported_flow_run(directory: Path) -> str | None:
    """Return the id of the flow run that a run belongs to; ``None`` if it has none."""
    cursor = ReportCursor.read(directory)
    if cursor is not None:
        return cursor.flow_run_id
    flow_run = _run_file(directory).get("flow_run_id")
    return flow_run if isinstance(flow_run, str) else None


def ended_status(directory: Path, plan: ReportPlan) -> RunStatus | None:
    """Return how the run ended, by its journal, else by ``run.json``; ``None``: it has not."""
    if plan.run_status is not None:
        return plan.run_status if plan.run_status.is_end else None
    try:
        status = RunStatus(_run_file(directory).get("status"))
    except ValueError:
        return None
    return status if status.is_end else None


def _send_all(report: RunReport, wait_s: float) -> None:
    """Send and wait until all has arrived, or nothing more has for ``wait_s``."""
    deadline = time.monotonic() + wait_s
    arrived = -1
    while True:
        report.step(hurry=True)
        status = report.status
        if report.sender.is_idle and not report.is_away:
            return
        now = time.monotonic()
        if status.arrived > arrived:
            arrived = status.arrived
            deadline = now + wait_s
        if now >= deadline:
            return
        pause_s = report.wait_s()
        time.sleep(min(_LEAST_PAUSE_S if pause_s is None else pause_s, deadline - now))


def _run_file(directory: Path) -> dict[str, object]:
    try:
        value = json.loads((directory / "run.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _message(counts: Mapping[str, int]) -> str:
    said = [f"{count:,} {name}" for name, count in counts.items() if count]
    return ", ".join(said) or "no job ended"

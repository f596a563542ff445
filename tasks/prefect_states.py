"""How Prefect calls the states of a job; nothing here imports Prefect."""

from __future__ import annotations

from typing import NamedTuple

from tasks.status import CauseKind, JobStatus


class PrefectState(NamedTuple):
    """A state of a task run: its type, as Prefect's API spells it, and its name."""

    type: str
    name: str


_BEFORE_THE_END = {
    JobStatus.SCHEDULED: PrefectState("PENDING", "Pending"),
    JobStatus.QUEUED: PrefectState("PENDING", "Queued"),
    JobStatus.RUNNING: PrefectState("RUNNING", "Running"),
}

_KILLED_BY = {
    CauseKind.TIMEOUT: PrefectState("FAILED", "TimedOut"),
    CauseKind.CANCELLED: PrefectState("CANCELLED", "Cancelled"),
    CauseKind.DEPENDENCY: PrefectState("FAILED", "UpstreamFailed"),
    CauseKind.LOST_NODE: PrefectState("CRASHED", "Crashed"),
    CauseKind.PREEMPTED: PrefectState("CRASHED", "Crashed"),
    CauseKind.DRIVER_LOST: PrefectState("CRASHED", "Crashed"),
}


def prefect_state(
    status: JobStatus, kind: CauseKind | None = None, *, skipped: bool = False
) -> PrefectState:
    """Return the state of a job's task run; ``kind`` is the cause of an end that is no pass."""
    if status is JobStatus.PASSED:
        return PrefectState("COMPLETED", "Cached" if skipped else "Completed")
    if status is JobStatus.FAILED:
        return PrefectState("FAILED", "Failed")
    if status is JobStatus.KILLED:
        return _KILLED_BY.get(kind or CauseKind.CANCELLED, _KILLED_BY[CauseKind.CANCELLED])
    return _BEFORE_THE_END[status]

"""The ids that jobs have as task runs in Prefect; nothing here imports Prefect."""

from __future__ import annotations

from uuid import UUID, uuid5


def task_run_id(flow_run_id: UUID | str, job_id: str) -> UUID:
    """Return the id of a job's task run in a flow run.

    A function of both ids, so that a report may be sent twice, and a future and the reporter
    mean the same task run without asking each other.
    """
    flow_run = flow_run_id if isinstance(flow_run_id, UUID) else UUID(flow_run_id)
    return uuid5(flow_run, job_id)

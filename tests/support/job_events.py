"""Makes jobs and what happens to them, as the scheduler tells it to observers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from tasks.events import JobChanged, JobEnd
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind, JobStatus

START = 1_790_000_000.0
"""When the made-up runs begin: 2026-09-21T14:13:20Z."""

S, Q, R = JobStatus.SCHEDULED, JobStatus.QUEUED, JobStatus.RUNNING
PASSED, FAILED, KILLED = JobStatus.PASSED, JobStatus.FAILED, JobStatus.KILLED

CAUSES = {
    FAILED: Cause(CauseKind.EXIT_CODE, "exit code 1", {"exit_code": 1}),
    KILLED: Cause(CauseKind.TIMEOUT, "ran longer than 60 s", {"timeout_s": 60.0}),
}


def a_job(job_id: str = "test-1", **rest: object) -> JobRecord:
    """Return a job that is as good as any."""
    return JobRecord(job_id, ("/bin/true",), (), rest)


def changed(
    job: JobRecord,
    before: JobStatus,
    after: JobStatus,
    *,
    at: float = START,
    attempt: int = 1,
    cause: Cause | None = None,
    end: JobEnd | None = None,
    backend: str = "local",
) -> JobChanged:
    """Return one change, with the cause and the end that belong to ``after``."""
    if after.is_end:
        cause = CAUSES.get(after) if cause is None else cause
        end = JobEnd(exit_code=int(after is not PASSED), runtime_s=1.5) if end is None else end
    return JobChanged(at, job, before, after, attempt, backend, cause, end)


def way(job: JobRecord, *statuses: JobStatus, at: float = START) -> list[JobChanged]:
    """Return the changes of a job that goes through these states, a second apart.

    The attempt grows with each RUNNING, as it does in a run.
    """
    events: list[JobChanged] = []
    attempt = 0
    for step, (before, after) in enumerate(pairwise(statuses)):
        attempt += after is R
        events.append(changed(job, before, after, at=at + step, attempt=attempt))
    return events


def in_batches(events: Sequence[JobChanged], *sizes: int) -> Iterator[list[JobChanged]]:
    """Yield the events in batches of these sizes, then what is left."""
    first = 0
    for size in sizes:
        yield list(events[first : first + size])
        first += size
    if events[first:]:
        yield list(events[first:])

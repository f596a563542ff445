"""Which ends of an attempt are followed by another one."""

from __future__ import annotations

from tasks.events import JobEnd
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind

FREE_RETRIES = 100
"""How often a job that lost its machine starts again without charge.

Nobody's fault, so ``retries`` does not count it; but a job that takes its node down with it
must come to an end.
"""

_CHARGED = frozenset({CauseKind.SIGNAL, CauseKind.TIMEOUT, CauseKind.OUT_OF_MEMORY})
_FREE = frozenset({CauseKind.PREEMPTED, CauseKind.LOST_NODE})


class Retries:
    """Counts the retries that jobs have used; only of jobs that were ever retried."""

    def __init__(self) -> None:
        self._charged: dict[int, int] = {}
        self._free: dict[int, int] = {}

    def take(self, number: int, job: JobRecord, cause: Cause | None, end: JobEnd) -> bool:
        """Return whether the job may run again after this end, and count that it does."""
        if cause is None:
            return False
        if cause.kind in _FREE:
            used, allowed = self._free, FREE_RETRIES
        elif _is_charged(job, cause, end):
            used, allowed = self._charged, job.retries
        else:
            return False
        if used.get(number, 0) >= allowed:
            return False
        used[number] = used.get(number, 0) + 1
        return True


def _is_charged(job: JobRecord, cause: Cause, end: JobEnd) -> bool:
    if cause.kind is CauseKind.EXIT_CODE:
        return not job.retry_exit_codes or end.exit_code in job.retry_exit_codes
    return cause.kind in _CHARGED

"""Which of the jobs that could run is started first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks.spec import JobRecord

Priority = Callable[[JobRecord, float], Any]
"""Return a sort key for a job and the length of its critical path in seconds.

The path is how long the job and the longest chain of jobs that wait for it took in earlier
runs, 0 where that is not known.  The least key is started first, equal ones in the order of
submission.  Asked once for each time that a job becomes ready.
"""

_USUAL = (0.0, 0.0)


def weight_then_critical_path(job: JobRecord, path_s: float) -> tuple[float, float]:
    """Heavier jobs first, then those with the longer way still to go."""
    if not path_s and "weight" not in job.rest:
        return _USUAL  # one tuple for a million jobs
    return (-job.weight, -path_s)


def in_submission_order(job: JobRecord, path_s: float) -> tuple[()]:
    """First come, first served."""
    return ()

"""The number that a run's processes carry, whatever they do to hide.

A job's processes inherit it in the soft ``RLIMIT_RSS``, which Linux ignores since 2.4.30 and
hands on through fork, exec, setsid and an empty environment.
"""

from __future__ import annotations

JOB_BITS = 22
"""A process carries ``run number << JOB_BITS | job number``: four million jobs in a run."""

RUN_BITS = 40
# 62 bits in all: positive as a signed 64-bit number and never RLIM_INFINITY.

_JOB_MASK = (1 << JOB_BITS) - 1


def carried_number(run_number: int, job_number: int) -> int:
    """Return what the processes of a job carry; job 0 is the run itself."""
    return run_number << JOB_BITS | job_number


def run_number_of(carried: int) -> int | None:
    """Return the run number in a carried number; ``None`` for a limit that is no such number.

    A run number has its highest bit set, so an ordinary limit in bytes does not read as one.
    """
    run_number = carried >> JOB_BITS
    return run_number if run_number >> (RUN_BITS - 1) == 1 else None


def job_number_of(carried: int) -> int:
    """Return the job number in a carried number."""
    return carried & _JOB_MASK

"""What becomes of one attempt on the fake backend."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tasks.status import Cause, CauseKind, JobStatus


@dataclass(frozen=True, slots=True)
class FakeOutcome:
    """How long an attempt takes, in seconds, and how it ends if it is left alone.

    ``passes()``, ``fails()``, ``hangs()`` and the other functions of this module make the usual
    ones.
    """

    duration_s: float = 0.0
    """``math.inf`` for one that hangs until it is killed."""
    status: JobStatus = JobStatus.PASSED
    cause: Cause | None = None
    exit_code: int | None = 0
    signal: int | None = None
    ignores_sigterm: bool = False
    """When it is killed it takes the whole grace time."""
    cpu_s: float | None = None
    max_rss_bytes: int | None = None


def passes(duration_s: float = 0.0) -> FakeOutcome:
    """Exit with 0."""
    return FakeOutcome(duration_s)


def fails(exit_code: int = 1, duration_s: float = 0.0) -> FakeOutcome:
    """Exit with another code than 0."""
    cause = Cause(CauseKind.EXIT_CODE, f"exit code {exit_code}", {"exit_code": exit_code})
    return FakeOutcome(duration_s, JobStatus.FAILED, cause, exit_code)


def is_signalled(signal: int, duration_s: float = 0.0) -> FakeOutcome:
    """Die of a signal that nobody of the run sent."""
    cause = Cause(CauseKind.SIGNAL, f"ended by signal {signal}", {"signal": signal})
    return FakeOutcome(duration_s, JobStatus.FAILED, cause, None, signal)


def runs_out_of_memory(duration_s: float = 0.0, max_rss_bytes: int | None = None) -> FakeOutcome:
    """Be killed by the system for its memory."""
    cause = Cause(CauseKind.OUT_OF_MEMORY, "killed by the system: out of memory")
    return FakeOutcome(duration_s, JobStatus.FAILED, cause, None, 9, max_rss_bytes=max_rss_bytes)


def cannot_launch(message: str = "no such file or directory") -> FakeOutcome:
    """Never begin."""
    cause = Cause(CauseKind.LAUNCH_ERROR, message)
    return FakeOutcome(0.0, JobStatus.FAILED, cause, None)


def loses_its_node(duration_s: float = 0.0) -> FakeOutcome:
    """Run on a machine that goes away."""
    cause = Cause(CauseKind.LOST_NODE, "the node went away")
    return FakeOutcome(duration_s, JobStatus.KILLED, cause, None)


def is_preempted(duration_s: float = 0.0) -> FakeOutcome:
    """Make room for somebody more important."""
    cause = Cause(CauseKind.PREEMPTED, "preempted")
    return FakeOutcome(duration_s, JobStatus.KILLED, cause, None)


def hangs(ignores_sigterm: bool = False) -> FakeOutcome:
    """Run until it is killed."""
    return FakeOutcome(math.inf, ignores_sigterm=ignores_sigterm)

"""The states of jobs and runs, and the causes of every end that is no pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class JobStatus(Enum):
    """A job's state; the value is what the journal and ``results.json`` say."""

    SCHEDULED = "scheduled"
    """Waits for other jobs."""
    QUEUED = "queued"
    """Could run; no slot or resource is free."""
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    KILLED = "killed"

    @property
    def letter(self) -> str:
        """One letter, different for each status, for narrow displays."""
        return self.name[0]

    @property
    def is_end(self) -> bool:
        """Whether a job in this state will never change again."""
        return self in _ENDS


_ENDS = frozenset({JobStatus.PASSED, JobStatus.FAILED, JobStatus.KILLED})


class RunStatus(Enum):
    """A run's state, as ``run.json`` says it."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CRASHED = "crashed"

    @property
    def is_end(self) -> bool:
        """Whether the run is over."""
        return self not in (RunStatus.STARTING, RunStatus.RUNNING, RunStatus.PAUSED)


class CauseKind(Enum):
    """Why a job ended without passing."""

    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    MISSING_OUTPUT = "missing_output"
    FAIL_PATTERN = "fail_pattern"
    MISSING_PASS_PATTERN = "missing_pass_pattern"  # noqa: S105 - no password
    LAUNCH_ERROR = "launch_error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    DEPENDENCY = "dependency"
    LOST_NODE = "lost_node"
    PREEMPTED = "preempted"
    DRIVER_LOST = "driver_lost"


@dataclass(frozen=True, slots=True)
class Cause:
    """One recorded reason: what kind, in words, and the operands for programs."""

    kind: CauseKind
    message: str
    context: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the object that ``results.json`` and the journal hold."""
        return {"kind": self.kind.value, "message": self.message, "context": dict(self.context)}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Cause:
        """Read what ``to_json`` wrote; raises ``ValueError`` for an unknown kind."""
        context = value.get("context")
        return cls(
            CauseKind(value["kind"]),
            str(value["message"]),
            dict(context) if isinstance(context, Mapping) else {},
        )

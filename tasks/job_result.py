"""What a flow gets back from a job: its result, or the error that tells why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.errors import HoldfastError
from tasks.status import Cause, JobStatus


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended; ``None`` where nothing ran or nothing is known."""

    id: str
    status: JobStatus
    exit_code: int | None
    signal: int | None
    runtime_s: float | None
    attempts: int
    """How many times the job was started; 0 when it never was."""
    log: Path | None
    """The file with everything the newest attempt printed."""
    directory: Path | None
    """The job's own directory in the run."""
    cause: Cause | None = None
    """Why it did not pass; ``None`` when it did."""
    skipped: bool = False
    """Passed without running: it had passed before."""
    cpu_s: float | None = None
    max_rss_bytes: int | None = None

    @property
    def passed(self) -> bool:
        """Whether the job passed."""
        return self.status is JobStatus.PASSED

    def in_words(self) -> str:
        """Return one line for people: what happened, why, and where the log is."""
        words = f'job "{self.id}" {self.status.value}'
        if self.cause is not None:
            words += f": {self.cause.message} ({self.cause.kind.value})"
        if self.log is not None:
            words += f"; log: {self.log}"
        return words


class JobFailedError(HoldfastError):
    """A job ended without passing; ``result`` tells how, the message why."""

    exit_code = 1

    def __init__(self, result: JobResult) -> None:
        self.result = result
        super().__init__(result.in_words())

    def __reduce__(self) -> tuple[type[JobFailedError], tuple[JobResult]]:
        # Prefect stores the exceptions of flows: it must survive the way there and back.
        return type(self), (self.result,)

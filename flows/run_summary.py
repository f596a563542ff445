"""What became of a run, for the command line, the flow's state and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.status import RunStatus

EXIT_PASSED = 0
EXIT_FAILED = 1
EXIT_OWN_ERROR = 70
EXIT_BY_SIGNAL = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
EXIT_CANCELLED = 130


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The end of a run.

    ``stopped_by`` is a signal's name or who asked for the cancel; ``error`` is Holdfast's own
    error that ended the run, empty otherwise.
    """

    run: str
    directory: Path
    status: RunStatus
    counts: Mapping[str, int]
    duration_s: float
    stopped_by: str = ""
    error: str = ""
    failed_observers: Mapping[str, str] = field(default_factory=dict)
    unreported: int = 0
    """Task runs that the Prefect server had not confirmed when the run ended."""

    @property
    def exit_code(self) -> int:
        """The exit code of the command line."""
        if self.error:
            return EXIT_OWN_ERROR
        if self.status is RunStatus.COMPLETED:
            return EXIT_PASSED
        if self.status is RunStatus.CANCELLED:
            return EXIT_BY_SIGNAL.get(self.stopped_by, EXIT_CANCELLED)
        return EXIT_OWN_ERROR if self.status is RunStatus.CRASHED else EXIT_FAILED

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints and that a flow returns."""
        return {
            "run": self.run,
            "directory": str(self.directory),
            "status": self.status.value,
            "counts": dict(self.counts),
            "duration_s": self.duration_s,
            "stopped_by": self.stopped_by,
            "error": self.error,
            "failed_observers": dict(self.failed_observers),
            "unreported": self.unreported,
            "exit_code": self.exit_code,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunSummary:
        """Read what ``to_json`` wrote."""
        return cls(
            run=value["run"],
            directory=Path(value["directory"]),
            status=RunStatus(value["status"]),
            counts=value["counts"],
            duration_s=value["duration_s"],
            stopped_by=value["stopped_by"],
            error=value["error"],
            failed_observers=value["failed_observers"],
            unreported=value["unreported"],
        )

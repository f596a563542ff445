"""How commands write statuses, durations and counts."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.durations import duration_text as duration_text
from tasks.status import RunStatus

STATUS_COLOURS: Mapping[RunStatus, str] = {
    RunStatus.STARTING: "cyan",
    RunStatus.RUNNING: "cyan",
    RunStatus.PAUSED: "yellow",
    RunStatus.COMPLETED: "green",
    RunStatus.FAILED: "red",
    RunStatus.CANCELLED: "yellow",
    RunStatus.CRASHED: "magenta",
}

JOB_COLOURS: Mapping[str, str] = {
    "passed": "green",
    "failed": "red",
    "killed": "yellow",
    "running": "cyan",
}


def counts_text(counts: Mapping[str, int]) -> str:
    """Return the counts that are not zero, in the order in which they are given."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)

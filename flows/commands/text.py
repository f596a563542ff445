"""How commands write statuses, durations and counts."""

from __future__ import annotations

from collections.abc import Mapping

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


def duration_text(seconds: float | None) -> str:
    """Return a duration as people say it: ``0.42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def counts_text(counts: Mapping[str, int]) -> str:
    """Return the counts that are not zero, in the order in which they are given."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)

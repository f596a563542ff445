"""What happens in a run, as frozen values that reach every observer in batches.

The journal writes each event as one line (``journal_entry``); readers of the journal work on
those lines, so that a run can be told from disk alone.  Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tasks.spec import JobRecord
from tasks.status import Cause, JobStatus, RunStatus


def iso_utc(at: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC with microseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_iso_utc(text: str) -> float:
    """Return the seconds since the epoch that ``iso_utc`` wrote."""
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True, slots=True)
class JobEnd:
    """What is known of an attempt when it ends; ``None`` where nothing ran."""

    exit_code: int | None = None
    signal: int | None = None
    skipped: bool = False
    """Spared by a checkpoint: passed without running."""
    runtime_s: float | None = None
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    leftovers_killed: int = 0


@dataclass(frozen=True, slots=True)
class JobChanged:
    """A job moved from one status to the next.

    ``end`` is set when ``after`` is an end, and on RUNNING -> QUEUED (a retry), where it tells
    how the attempt that is repeated ended; ``attempt`` is then the number of the ended attempt.
    """

    at: float
    job: JobRecord
    before: JobStatus
    after: JobStatus
    attempt: int
    """1 for the first; 0 while the job has never been launched."""
    backend: str
    cause: Cause | None = None
    end: JobEnd | None = None

    def journal_entry(self) -> dict[str, Any]:
        """Return the ``job_status`` line."""
        entry: dict[str, Any] = {
            "at": iso_utc(self.at),
            "event": "job_status",
            "job": self.job.id,
            "from": self.before.value,
            "to": self.after.value,
            "attempt": self.attempt,
            "backend": self.backend,
            "cause": self.cause.to_json() if self.cause else None,
        }
        end = self.end
        if end is not None:
            entry["exit_code"] = end.exit_code
            entry["signal"] = end.signal
            entry["skipped"] = end.skipped
            entry["runtime_s"] = end.runtime_s
            entry["cpu_s"] = end.cpu_s
            entry["max_rss_bytes"] = end.max_rss_bytes
            entry["leftovers_killed"] = end.leftovers_killed
        return entry


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run began; ``contents`` is what ``run.json`` holds."""

    at: float
    contents: Mapping[str, Any]

    def journal_entry(self) -> dict[str, Any]:
        """Return the ``run_started`` line."""
        return {"at": iso_utc(self.at), "event": "run_started", **self.contents}


@dataclass(frozen=True, slots=True)
class KillRequested:
    """Somebody or something asked for jobs to be killed; ``jobs`` is ``None`` for all."""

    at: float
    by: str
    reason: str
    jobs: Sequence[str] | None = None

    def journal_entry(self) -> dict[str, Any]:
        """Return the ``kill_requested`` line."""
        jobs = "all" if self.jobs is None else list(self.jobs)
        entry = {"event": "kill_requested", "by": self.by, "reason": self.reason, "jobs": jobs}
        return {"at": iso_utc(self.at), **entry}


@dataclass(frozen=True, slots=True)
class RunPaused:
    """No further jobs start; with ``now`` the running ones are stopped too."""

    at: float
    by: str = ""
    now: bool = False

    def journal_entry(self) -> dict[str, Any]:
        """Return the ``run_paused`` line."""
        return {"at": iso_utc(self.at), "event": "run_paused", "by": self.by, "now": self.now}


@dataclass(frozen=True, slots=True)
class RunUnpaused:
    """Jobs start again."""

    at: float
    by: str = ""

    def journal_entry(self) -> dict[str, Any]:
        """Return the ``run_unpaused`` line."""
        return {"at": iso_utc(self.at), "event": "run_unpaused", "by": self.by}


@dataclass(frozen=True, slots=True)
class KeeperLost:
    """The keeper died; its jobs were ended without it."""

    at: float
    message: str

    def journal_entry(self) -> dict[str, Any]:
        """Return the ``keeper_lost`` line."""
        return {"at": iso_utc(self.at), "event": "keeper_lost", "message": self.message}


@dataclass(frozen=True, slots=True)
class Adopted:
    """A new driver took over jobs that ran on after the old one died."""

    at: float
    jobs: Sequence[str]

    def journal_entry(self) -> dict[str, Any]:
        """Return the ``adopted`` line."""
        return {"at": iso_utc(self.at), "event": "adopted", "jobs": list(self.jobs)}


@dataclass(frozen=True, slots=True)
class ObserverFailed:
    """An observer raised and was switched off; the run goes on without it."""

    at: float
    observer: str
    error: str

    def journal_entry(self) -> dict[str, Any]:
        """Return the ``observer_failed`` line."""
        entry = {"event": "observer_failed", "observer": self.observer, "error": self.error}
        return {"at": iso_utc(self.at), **entry}


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The last event of a run."""

    at: float
    status: RunStatus
    counts: Mapping[str, int]

    def journal_entry(self) -> dict[str, Any]:
        """Return the ``run_ended`` line."""
        entry = {"event": "run_ended", "status": self.status.value, "counts": dict(self.counts)}
        return {"at": iso_utc(self.at), **entry}


RunEvent = (
    RunStarted
    | JobChanged
    | KillRequested
    | RunPaused
    | RunUnpaused
    | KeeperLost
    | Adopted
    | ObserverFailed
    | RunEnded
)

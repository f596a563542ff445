"""The last words of a run: what became of its jobs, why, where to look and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from observers.log_tail import last_lines
from observers.results import results
from tasks.durations import duration_text
from tasks.sanitise import one_line
from tasks.status import CauseKind, RunStatus

MAX_FAILURES = 10
MAX_LINES = 5

_FOLLOWED = (CauseKind.DEPENDENCY.value, CauseKind.CANCELLED.value, CauseKind.DRIVER_LOST.value)
"""Causes that say nothing of the job itself: counted, not listed."""

_FOLLOWED_IN_WORDS = {
    CauseKind.DEPENDENCY.value: "did not run, since a job that they need did not pass",
    CauseKind.CANCELLED.value: "ended because the run was cancelled",
    CauseKind.DRIVER_LOST.value: "ended because the run's driver died",
}


def summary_text(
    directory: Path,
    contents: Mapping[str, Any] | None = None,
    *,
    duration_s: float | None = None,
    notes: Sequence[str] = (),
    commands: Mapping[str, str] | None = None,
) -> str:
    """Return the summary of the run in ``directory``, several lines of plain text.

    ``contents`` is what ``results.json`` holds; ``None`` makes it from the journal.  ``notes``
    are said as they are (an observer that failed, events that the server has not got).
    ``commands`` are printed with their purpose, such as ``{"rerun what failed": "python …"}``.

    What jobs wrote is shown harmless and bounded: ten failures, five last lines of each log.
    Raises as ``read_journal`` does where ``contents`` has to be made.
    """
    if contents is None:
        contents = results(directory)
    if duration_s is None:
        duration_s = _duration_s(contents["jobs"])
    lines = [_headline(contents, duration_s)]
    lines += _failures(directory, contents["jobs"])
    lines += _followers(contents["jobs"])
    lines += [one_line(note, 500) for note in notes]
    places = {"run directory": str(directory), **({} if commands is None else commands)}
    width = max(len(purpose) for purpose in places)
    lines += [f"{purpose:<{width}}  {what}" for purpose, what in places.items()]
    return "\n".join(lines)


def _headline(contents: Mapping[str, Any], duration_s: float) -> str:
    counts = contents["counts"]
    total = len(contents["jobs"])
    parts = [
        f"{counts[status]} {status}"
        for status in ("passed", "failed", "killed", "running", "queued", "scheduled")
        if counts.get(status)
    ]
    skipped = f" ({counts['skipped']} spared by the checkpoint)" if counts["skipped"] else ""
    said = ", ".join(parts) + skipped if parts else "no jobs"
    jobs = f"; {total} job{'' if total == 1 else 's'}" if parts else ""
    status = _STATUS_IN_WORDS.get(contents["status"], contents["status"])
    name = one_line(str(contents["name"]), 100)
    return f'Run "{name}" {status}: {said}{jobs} in {duration_text(duration_s)}'


_STATUS_IN_WORDS = {
    RunStatus.STARTING.value: "is starting",
    RunStatus.RUNNING.value: "is running",
    RunStatus.PAUSED.value: "is paused",
    RunStatus.CANCELLED.value: "was cancelled",
}


def _failures(directory: Path, jobs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines that tell of the jobs that failed on their own account."""
    failed = [job for job in jobs if job["cause"] and job["cause"]["kind"] not in _FOLLOWED]
    lines: list[str] = []
    for job in failed[:MAX_FAILURES]:
        lines += _failure(directory, job)
    if len(failed) > MAX_FAILURES:
        folders = [f"{name}/" for name in ("failed", "killed") if (directory / name).is_dir()]
        where = f"; see {' and '.join(folders)} in the run directory" if folders else ""
        lines.append(f"  and {len(failed) - MAX_FAILURES} more{where}")
    return lines


def _failure(directory: Path, job: Mapping[str, Any]) -> list[str]:
    again = f", attempt {job['attempts']}" if job["attempts"] > 1 else ""
    lines = [f"  {job['id']} {job['status']}: {one_line(job['cause']['message'], 300)}{again}"]
    if job["log"]:
        log = directory / job["log"]
        lines.append(f"    log  {log}")
        lines += [f"    | {line}" for line in last_lines(log, MAX_LINES, 160)]
    return lines


def _followers(jobs: Iterable[Mapping[str, Any]]) -> list[str]:
    kinds = [job["cause"]["kind"] for job in jobs if job["cause"]]
    return [
        f"  {kinds.count(kind)} {'job' if kinds.count(kind) == 1 else 'jobs'} {words}"
        for kind, words in _FOLLOWED_IN_WORDS.items()
        if kind in kinds
    ]


def _duration_s(jobs: Iterable[Mapping[str, Any]]) -> float:
    """Return the time from the first event of a job to the last, as far as the results tell."""
    times = [
        datetime.fromisoformat(job[name]).timestamp()
        for job in jobs
        for name in ("queued_at", "started_at", "ended_at")
        if job[name]
    ]
    return max(times) - min(times) if times else 0.0

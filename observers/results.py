"""``results.json``: what became of each job, a pure function of the journal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from observers.journal_reader import Entry, read_journal
from tasks.atomic_file import write_atomically
from tasks.status import JobStatus, RunStatus

RESULTS_FILE = "results.json"

_END_FIELDS = (
    "exit_code",
    "signal",
    "skipped",
    "runtime_s",
    "cpu_s",
    "max_rss_bytes",
    "leftovers_killed",
)
_PAUSES = {"run_paused": RunStatus.PAUSED.value, "run_unpaused": RunStatus.RUNNING.value}
_ENDS = frozenset(status.value for status in JobStatus if status.is_end)


def results(journal: Path | Iterable[Entry]) -> dict[str, Any]:
    """Return what ``results.json`` holds, for a run's directory, its journal or its entries.

    Jobs stand in the order of their first event.  Everything that an attempt has is that of the
    newest attempt; ``counts`` counts jobs by status, and under ``skipped`` those of the passed
    that a checkpoint spared.  Also made for a run that is going on or crashed: its jobs then
    stand as they are.  Raises as ``read_journal`` does.
    """
    run: dict[str, Any] = {"run": None, "name": None, "status": RunStatus.STARTING.value}
    jobs: dict[str, dict[str, Any]] = {}
    for entry in read_journal(journal) if isinstance(journal, Path) else journal:
        event = entry["event"]
        if event == "job_status":
            _change_job(jobs, entry)
        elif event == "run_started":
            run.update((key, entry.get(key, run[key])) for key in ("run", "name", "status"))
        elif event == "run_ended":
            run["status"] = entry["status"]
        elif event in _PAUSES:
            run["status"] = _PAUSES[event]
    return {**run, "counts": count_jobs(jobs.values()), "jobs": list(jobs.values())}


def count_jobs(jobs: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many jobs there are of each status; those that are 0 only for the ends."""
    counts = {"passed": 0, "failed": 0, "killed": 0, "skipped": 0}
    for job in jobs:
        status = job["status"]
        counts[status] = counts.get(status, 0) + 1
        if job["skipped"]:
            counts["skipped"] += 1
    return counts


def results_of(directory: Path) -> dict[str, Any]:
    """Return the results of the run in ``directory`` as they stand now, from its journal."""
    return results(directory)


def write_results(directory: Path) -> dict[str, Any]:
    """Write ``results.json`` of a run's directory from its journal; return its contents.

    The file is replaced in one step.  Raises ``OSError`` and as ``read_journal`` does.
    """
    contents = results(directory)
    write_atomically(directory / RESULTS_FILE, _text(contents))
    return contents


def _change_job(jobs: dict[str, dict[str, Any]], entry: Entry) -> None:
    job_id = entry["job"]
    job = jobs.get(job_id)
    if job is None:
        job = jobs[job_id] = _new_job(job_id)
    status = job["status"] = entry["to"]
    attempt = job["attempts"] = entry["attempt"]
    job["backend"] = entry["backend"]
    if attempt and job["log"] is None:
        job["log"] = f"jobs/{job_id}/log.txt"
    if status in _ENDS:
        job["ended_at"] = entry["at"]
        job["cause"] = entry["cause"]
        for name in _END_FIELDS:
            job[name] = entry[name]
    elif status == "running":
        job["started_at"] = entry["at"]
    elif status == "queued":
        job["queued_at"] = entry["at"]
        job["started_at"] = None


def _new_job(job_id: str) -> dict[str, Any]:
    return {
        "id": job_id,
        "status": JobStatus.SCHEDULED.value,
        "cause": None,
        "exit_code": None,
        "signal": None,
        "attempts": 0,
        "skipped": False,
        "backend": None,
        "queued_at": None,
        "started_at": None,
        "ended_at": None,
        "runtime_s": None,
        "cpu_s": None,
        "max_rss_bytes": None,
        "leftovers_killed": 0,
        "log": None,
    }


def _text(contents: Mapping[str, Any]) -> str:
    """Return the JSON with one job a line, so that ``grep`` finds a job."""
    jobs = ",\n".join(f"  {json.dumps(job)}" for job in contents["jobs"])
    head = {key: value for key, value in contents.items() if key != "jobs"}
    jobs_text = f"[\n{jobs}\n ]" if jobs else "[]"
    return f'{json.dumps(head, indent=1)[:-2]},\n "jobs": {jobs_text}\n}}\n'

"""Settling: giving a run whose driver died the end that it could not write itself.

Whoever finds a dead run settles it: the keeper when it has ended the jobs, else the next start
of the name, ``list``, ``show``, ``doctor`` or ``settle``.  Settling twice changes nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backends.process_tree import sweep_run
from filelock import FileLock
from observers.results import write_results
from observers.status_links import StatusLinks

from flows.lock import Holder, keeper_of
from flows.run_directory import RunFile
from observers.journal_reader import read_journal
from tasks.errors import StateError
from tasks.events import RunEnded
from tasks.process_identity import ProcessIdentity, wait_for_end
from tasks.status import JobStatus, RunStatus

_log = logging.getLogger("holdfast.settle")

_SETTLE_LOCK_TIMEOUT_S = 60.0
_KEEPER_PATIENCE_S = 60.0


def driver_of(file: RunFile) -> ProcessIdentity | None:
    """Return the process that leads the run, dead or alive."""
    try:
        return ProcessIdentity.from_json(file.driver or {})
    except (KeyError, ValueError, TypeError):
        return None


def is_dead(directory: Path, file: RunFile) -> bool:
    """Whether the run reads as going on although nobody leads it any more."""
    if file.status.is_end:
        return False
    driver = driver_of(file)
    return driver is None or not driver.is_alive()


def wait_for_keeper(holder: Holder, keeper: ProcessIdentity) -> None:
    """Wait until the keeper of a dead driver has ended its jobs and settled the run."""
    _log.warning(
        "waiting for the jobs of run %s, whose driver died, to end (keeper: process %d)",
        holder.run,
        keeper.pid,
    )
    if not wait_for_end(keeper, timeout_s=_KEEPER_PATIENCE_S):
        _log.warning("keeper %d of run %s is still busy", keeper.pid, holder.run)


def end_dead_run(holder: Holder) -> None:
    """End and settle what a dead holder left; never raises: it must not block a new start."""
    try:
        settle(holder.directory)
    except Exception:
        _log.exception("run %s could not be settled", holder.run)


def settle(directory: Path) -> RunStatus:
    """Give a dead run its end and return its status; a run that has one keeps it.

    Ends what still carries the run's number first.  Raises ``StateError`` while the driver
    lives, or while its keeper does and is not the caller's parent.
    """
    with FileLock(directory / ".settle.lock", timeout=_SETTLE_LOCK_TIMEOUT_S):
        file = RunFile.read(directory)
        if file is None:
            raise StateError(f'"{directory}" holds no readable run.json')
        if file.status.is_end:
            return file.status
        if not is_dead(directory, file):
            raise StateError(f"run {file.run} is in progress; end it with: cancel {file.run}")
        keeper = keeper_of(directory)
        if keeper is not None and keeper.is_alive():
            if keeper.pid != os.getppid():
                raise StateError(f"run {file.run} is being ended by its keeper {keeper.pid}")
        elif file.number:
            sweep_run(file.number, file.run, grace_s=2.0)
        return _settle(directory, file)


def _settle(directory: Path, file: RunFile) -> RunStatus:
    """Write the missing ends, then links, results and run.json."""
    past = _replay(directory)
    if past.ended is not None:
        status, counts, at = past.ended
    else:
        at = time.time()
        events = list(_missing_ends(directory, past, at))
        for event in events:
            past.statuses[event.job.id] = event.after
        counts = _counts(past)
        status = RunStatus.CRASHED
        _tell(directory, events, RunEnded(at, status, counts))
    StatusLinks(directory).rebuild(past.statuses)
    write_results(directory)
    file.ended(status, counts, at).write(directory)
    if file.socket:
        Path(file.socket).unlink(missing_ok=True)
    return status


@dataclass(slots=True)
class _Past:
    """What the journal tells about each job, and the end of the run if it was written."""

    statuses: dict[str, JobStatus] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    backends: dict[str, str] = field(default_factory=dict)
    skipped: int = 0
    ended: tuple[RunStatus, Mapping[str, int], float] | None = None


def _replay(directory: Path) -> _Past:
    from tasks.events import from_iso_utc

    past = _Past()
    for entry in read_journal(directory / "events.jsonl"):
        if entry["event"] == "job_status":
            job = entry["job"]
            past.statuses[job] = JobStatus(entry["to"])
            past.attempts[job] = entry["attempt"]
            past.backends[job] = entry["backend"]
            past.skipped += bool(entry.get("skipped"))
        elif entry["event"] == "run_ended":
            at = from_iso_utc(entry["at"])
            past.ended = (RunStatus(entry["status"]), entry["counts"], at)
    return past

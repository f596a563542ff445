"""Settling: giving a run whose driver died the end that it could not write itself.

Whoever finds a dead run settles it: the keeper when it has ended the jobs, else the next start
of the name, ``list``, ``show``, ``doctor`` or ``settle``.  Settling twice changes nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from backends.base import Completion
from backends.completion_spool import SPOOL_NAME, completion_of, read_spool
from backends.judge import cause_of_checks, has_checks
from backends.keeper_process import KeeperFile
from backends.sweep import sweep_run
from flows.kept_run import has_lost_its_driver, kept_run
from flows.lock import Holder, keeper_of
from flows.run_directory import RunFile
from observers.job_list import read_job_list
from observers.journal import Journal
from observers.journal_reader import read_journal
from observers.results import count_jobs, write_results
from observers.status_links import StatusLinks
from tasks.errors import HoldfastError, StateError
from tasks.events import JobChanged, JobEnd, RunEnded, RunStarted, from_iso_utc
from tasks.process_identity import ProcessIdentity, wait_for_end
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind, JobStatus, RunStatus

_log = logging.getLogger("holdfast.settle")

_SETTLE_LOCK_TIMEOUT_S = 60.0
_KEEPER_PATIENCE_S = 60.0
_REPORT_WAIT_S = 5.0

_NOBODY = ("fail-fast", "flow", "Holdfast")
"""Who ends all jobs of a run without that somebody has cancelled it."""


def is_dead(directory: Path, file: RunFile) -> bool:
    """Whether the run reads as going on although it does not.

    Without a driver it still goes on while a keeper keeps its jobs for the next start.
    """
    return has_lost_its_driver(file) and kept_run(directory) is None


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
    except Exception:  # noqa: BLE001
        _log.exception("run %s could not be settled", holder.run)


def settle(directory: Path, *, report: bool = True) -> RunStatus:
    """Give a dead run its end and return its status; a run that has one keeps it.

    Ends what still carries the run's number first.  Without ``report`` Prefect is neither told
    nor imported.  Raises ``StateError`` while the driver lives, or while its keeper does and is
    not the caller's parent.
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
        else:
            _sweep(directory, file)
        status = _settle(directory, file)
        if report:
            _report(directory, file)
        return status


def _sweep(directory: Path, file: RunFile) -> None:
    """End what the dead keeper can no longer end."""
    if not file.number:
        return
    keeper = KeeperFile.read(directory)
    swept = sweep_run(
        file.number,
        file.run,
        directory=directory,
        since=keeper.identity.start_time if keeper else 0,
        boot_id=keeper.identity.boot_id if keeper else None,
        cgroup=keeper.cgroup if keeper else None,
    )
    if swept.ended:
        _log.warning("ended %d processes that run %s had left behind", swept.ended, file.run)
    for process in swept.stuck:
        _log.warning("not even SIGKILL ended process %s of run %s", process, file.run)


def _settle(directory: Path, file: RunFile) -> RunStatus:
    """Write the missing ends, then links, results and run.json."""
    past = _replay(directory)
    at = time.time()
    status: RunStatus
    counts: Mapping[str, int]
    if past.ended is None:
        events = _missing_ends(directory, file, past, at)
        status, counts = _status(past, events), _counts(past, events)
        if not past.started:
            tell_start(directory, file)
        _tell(directory, events, RunEnded(at, status, counts))
    else:
        # The driver died after its last event: only what follows from it is missing.
        status, counts, at = past.ended
    repair_links(directory)
    write_results(directory)
    file.ended(status, counts, at).write(directory)
    if file.socket:
        Path(file.socket).unlink(missing_ok=True)
    return status


def _report(directory: Path, file: RunFile) -> None:
    """Tell the Prefect server, if it is still there; what is missing, ``sync`` sends later."""
    api_url = (file.prefect or {}).get("api_url")
    if api_url is None:
        return
    # Imported here: it imports Prefect, which a run without it never does.
    from flows.reporting import report

    try:
        report(directory, file, str(api_url), wait_s=_REPORT_WAIT_S)
    except (HoldfastError, OSError) as error:
        _log.warning(
            "the Prefect server was not told how run %s ended: %s; "
            "tell it: python -m flows.run sync %s",
            file.run,
            error,
            file.run,
        )


@dataclass(slots=True)
class _Past:
    """What the journal tells about each job, and the end of the run if it was written."""

    last: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The newest ``job_status`` entry of each job."""
    started: bool = False
    """Whether there is any entry: a driver may die before it has written one."""
    ended: tuple[RunStatus, Mapping[str, int], float] | None = None
    cancel: Cause | None = None
    """Why all jobs were to end when the driver died, if somebody had asked for that."""


def _replay(directory: Path) -> _Past:
    past = _Past()
    for entry in _entries(directory):
        past.started = True
        if entry["event"] == "job_status":
            past.last[entry["job"]] = entry
        elif entry["event"] == "kill_requested":
            past.cancel = past.cancel or _cancel_of(entry)
        elif entry["event"] == "run_ended":
            at = from_iso_utc(entry["at"])
            past.ended = (RunStatus(entry["status"]), entry["counts"], at)
    return past


def _cancel_of(entry: Mapping[str, Any]) -> Cause | None:
    """Return the cancel that an entry of the journal means: all jobs are to end, by somebody."""
    if entry["jobs"] != "all" or entry["by"] in _NOBODY:
        return None
    return Cause(CauseKind.CANCELLED, entry["reason"])


def _entries(directory: Path) -> Iterator[Mapping[str, Any]]:
    try:
        yield from read_journal(directory)
    except FileNotFoundError:
        return  # the driver died before it had one


def _missing_ends(directory: Path, file: RunFile, past: _Past, at: float) -> list[JobChanged]:
    """Return the end of every job that has none in the journal.

    What the keeper spooled is what happened; a job without that was lost with the driver.
    """
    entries = read_spool(directory / SPOOL_NAME)
    spooled = {(entry["number"], entry["attempt"]): entry for entry in entries}
    events = []
    for number, job in enumerate(_jobs(directory), 1):
        last = past.last.get(job.id, {"to": "scheduled", "attempt": 0, "backend": ""})
        before, attempt = JobStatus(last["to"]), int(last["attempt"])
        if before.is_end:
            continue
        entry = spooled.get((number, attempt)) if before is JobStatus.RUNNING else None
        done = None if entry is None else _completion(directory, file, job, entry)
        event = _end_of(job, before, attempt, str(last["backend"]), done, at)
        events.append(_cancelled(event, past.cancel))
    return events


def _jobs(directory: Path) -> Iterator[JobRecord]:
    try:
        yield from read_job_list(directory)
    except FileNotFoundError:
        return  # the driver died before it had any


def _completion(
    directory: Path, file: RunFile, job: JobRecord, entry: Mapping[str, Any]
) -> Completion:
    """Return what a spooled entry means, the job's declared checks included."""
    log = directory / "jobs" / job.id / "log.txt"
    done = completion_of(entry, job, str(log))
    if done.status is not JobStatus.PASSED or not has_checks(job):
        return done
    cause = cause_of_checks(job, cwd=Path(file.cwd or ".", job.cwd or ""), log=log)
    return done if cause is None else replace(done, status=JobStatus.FAILED, cause=cause)


def _end_of(
    job: JobRecord,
    before: JobStatus,
    attempt: int,
    backend: str,
    done: Completion | None,
    at: float,
) -> JobChanged:
    if done is None:
        what = "was running" if before is JobStatus.RUNNING else "had not started"
        cause = Cause(CauseKind.DRIVER_LOST, f"the run's process died while this job {what}")
        end = JobEnd()
        return JobChanged(at, job, before, JobStatus.KILLED, attempt, backend, cause, end)
    cause_of_end = done.cause
    if done.status is not JobStatus.PASSED and cause_of_end is None:
        cause_of_end = Cause(CauseKind.DRIVER_LOST, "killed, since the run's process died")
    ended_at = at if done.ended_at is None else done.ended_at
    return JobChanged(ended_at, job, before, done.status, attempt, backend, cause_of_end, done.end)


def _cancelled(event: JobChanged, cancel: Cause | None) -> JobChanged:
    """Give the cancel as the cause of what it ended: it came before the driver's death.

    Prefect kills a flow that takes more than 30 s to obey; its keeper ends the jobs in time.
    """
    lost = event.cause is not None and event.cause.kind is CauseKind.DRIVER_LOST
    return replace(event, cause=cancel) if lost and cancel is not None else event


def _counts(past: _Past, events: Sequence[JobChanged]) -> dict[str, int]:
    statuses = {job: entry["to"] for job, entry in past.last.items()}
    skipped = {job for job, entry in past.last.items() if entry.get("skipped")}
    statuses.update((event.job.id, event.after.value) for event in events)
    return count_jobs(
        {"status": status, "skipped": job in skipped} for job, status in statuses.items()
    )


def _status(past: _Past, events: Sequence[JobChanged]) -> RunStatus:
    """Return how the run ended: somebody may have ended it before, or through its keeper."""
    causes = (event.cause for event in events)
    by_hand = any(cause is not None and cause.kind is CauseKind.CANCELLED for cause in causes)
    return RunStatus.CANCELLED if by_hand or past.cancel is not None else RunStatus.CRASHED


def tell_start(directory: Path, file: RunFile) -> None:
    """Write the first line of the journal, which the driver did not come to write."""
    journal = Journal(directory)
    try:
        journal.run_started(RunStarted(file.started_at, file.to_json()))
    finally:
        journal.close()


def _tell(directory: Path, events: Sequence[JobChanged], end: RunEnded) -> None:
    journal = Journal(directory)
    try:
        journal.jobs_changed(events)
        journal.run_ended(end)
    finally:
        journal.close()


def repair_links(directory: Path) -> None:
    """Put every link where the journal says: the driver may have died between the two."""
    links = StatusLinks(directory)
    try:
        statuses = {job: entry["to"] for job, entry in _replay(directory).last.items()}
        links.set_all({job: JobStatus(status) for job, status in statuses.items()})
    finally:
        links.close()

"""Adoption: what a new driver has to know to go on with the run of a dead one.

The journal tells what the dead driver said; the keeper tells which attempts live and, in its
spool, how others have ended since.  The journal may lag behind by what the driver did in its
last moment: what the keeper says is what is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.base import Backend
from backends.keeper_process import KeeperError
from backends.local import Adoption, LocalBackend
from backends.scheduler import LiveAttempt, PastJob
from flows.kept_run import KeptRun
from flows.settle import repair_links, tell_start
from observers.journal_reader import Entry, read_journal
from tasks.events import JobChanged, JobEnd, from_iso_utc
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind, JobStatus


@dataclass(frozen=True, slots=True)
class RunAdoption:
    """A run whose keeper follows this process now."""

    jobs: Sequence[JobRecord]
    backend: LocalBackend
    """Connected to the keeper, not started."""
    past: Mapping[str, PastJob]
    """Where each job stands that the journal or the keeper knows of."""
    changes: Sequence[JobChanged]
    """What the journal tells, one change for each job: from SCHEDULED to where it stands."""
    taken_over: Sequence[str]
    """The jobs that ran on when the driver had died, in the order of their numbers."""

    @classmethod
    def of(cls, kept: KeptRun, backend: Backend, jobs: Sequence[JobRecord]) -> RunAdoption:
        """Take the run over; raises ``KeeperError`` where its keeper has ended it meanwhile."""
        if not isinstance(backend, LocalBackend):
            raise KeeperError(f'backend "{backend.name}" has no keeper to adopt')
        numbers = {job.id: number for number, job in enumerate(jobs, 1)}
        # The driver is dead: what it has written is all there is.
        told = _told(kept, numbers)
        ended = {attempt for each in told.values() for attempt in each.ended}
        adoption = backend.adopt(dict(enumerate(jobs, 1)), ended)
        live = _live_attempts(adoption)
        if not told:
            _begin_journal(kept)
        repair_links(kept.directory)
        past = {
            job.id: told.get(job.id, _Told()).past(live.get(number))
            for number, job in enumerate(jobs, 1)
            if job.id in told or number in live
        }
        return cls(
            jobs=jobs,
            backend=backend,
            past=past,
            changes=[each.change(jobs[numbers[job] - 1]) for job, each in told.items()],
            taken_over=[jobs[number - 1].id for number in sorted(live)],
        )


@dataclass(slots=True)
class _Told:
    """What the journal tells of one job."""

    status: JobStatus = JobStatus.SCHEDULED
    attempt: int = 0
    at: float = 0.0
    last: Entry = field(default_factory=dict)
    ended: set[tuple[int, int]] = field(default_factory=set)
    """Number and attempt of what has ended."""
    repeated: list[tuple[Cause | None, JobEnd]] = field(default_factory=list)

    def add(self, number: int, entry: Entry) -> None:
        """Take in the next ``job_status`` entry."""
        self.last, self.at = entry, from_iso_utc(entry["at"])
        self.status, self.attempt = JobStatus(entry["to"]), int(entry["attempt"])
        attempt = number, self.attempt
        if self.status.is_end:
            self.ended.add(attempt)
        elif self.status is JobStatus.QUEUED and entry["from"] == JobStatus.RUNNING.value:
            cause = _cause(entry)
            if cause is not None and cause.kind is CauseKind.DRIVER_LOST:
                self.attempt -= 1  # it never began, and begins under the same number
            else:
                self.ended.add(attempt)
                self.repeated.append((cause, _end(entry)))

    def past(self, live: LiveAttempt | None) -> PastJob:
        """Return where the job stands for the scheduler."""
        skipped = bool(self.last.get("skipped"))
        return PastJob(self.status, self.attempt, self.at, skipped, live, self.repeated)

    def change(self, job: JobRecord) -> JobChanged:
        """Return the one change that leads to where the job stands."""
        return JobChanged(
            self.at,
            job,
            JobStatus.SCHEDULED,
            self.status,
            self.attempt,
            str(self.last["backend"]),
            _cause(self.last),
            _end(self.last) if self.status.is_end else None,
        )


def _told(kept: KeptRun, numbers: Mapping[str, int]) -> dict[str, _Told]:
    told: dict[str, _Told] = {}
    try:
        for entry in read_journal(kept.directory):
            if entry["event"] == "job_status":
                job = entry["job"]
                told.setdefault(job, _Told()).add(numbers[job], entry)
    except FileNotFoundError:
        pass  # the driver died before it had one
    return told


def _begin_journal(kept: KeptRun) -> None:
    """Write what a driver that died at its start did not come to write."""
    try:
        if next(read_journal(kept.directory), None) is not None:
            return
    except FileNotFoundError:
        pass
    tell_start(kept.directory, kept.file)


def _live_attempts(adoption: Adoption) -> dict[int, LiveAttempt]:
    """Return by job number the newest attempt whose end the backend will tell."""
    live = [
        (number, LiveAttempt(attempt, adoption.began_at.get(number)))
        for number, attempt in adoption.ended
    ]
    live += [
        (job.number, LiveAttempt(job.attempt, job.started_at, job.resources))
        for job in adoption.running
    ]
    return dict(sorted(live, key=lambda each: each[1].attempt))


def _cause(entry: Entry) -> Cause | None:
    value: Any = entry["cause"]
    return None if value is None else Cause.from_json(value)


def _end(entry: Entry) -> JobEnd:
    return JobEnd(
        exit_code=entry.get("exit_code"),
        signal=entry.get("signal"),
        skipped=bool(entry.get("skipped")),
        runtime_s=entry.get("runtime_s"),
        cpu_s=entry.get("cpu_s"),
        max_rss_bytes=entry.get("max_rss_bytes"),
        leftovers_killed=int(entry.get("leftovers_killed") or 0),
    )

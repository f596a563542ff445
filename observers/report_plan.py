"""What a Prefect server is to be told next: a pure function of the journal and the clock.

The plan follows levels, not edges: for each task run it knows how the job stands and what the
server was last told, and ``due`` hands out what differs and is worth saying now.  A server that
was away for an hour is told how things stand, not everything that happened.

The rules, since each thing said costs the server some 5 ms and the machine is the jobs':

- An end is said at once, but a short one (under 2 s) is held back while jobs start faster than
  100 a second: on two cores a server that records halves their pace.
- A job is said to run once it has run for 1 s (2 s while jobs start that fast), so a job that
  ends within a second is told as its end alone.
- A job that waits is said to wait after 2 s, when there is nothing better to say, and not while
  jobs start that fast.
- Above ``limit`` jobs only groups are told.
- ``release`` (the run has ended) makes all that is left due.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from observers.prefect_events import Stage, TaskRunReport
from observers.report_groups import Groups
from tasks.events import from_iso_utc
from tasks.prefect_states import prefect_state
from tasks.status import CauseKind, JobStatus, RunStatus

REPORT_LIMIT = 9_000
"""Jobs that are told one by one; the server's run graph refuses more than 10,000."""

BATCH = 500
"""Task runs in one list of reports."""

SHORT_S = 1.0
BURST_AGE_S = 2.0
BURST_STARTS = 200
BURST_WINDOW_S = 2.0
"""Jobs start fast while so many did within so many seconds."""
WAITING_S = 2.0
WAITING_ROOM = 1_500
"""Jobs that wait are told only while the server has so little left to confirm."""

PATHS = 50_000
"""Arrows that are told until a run has so many, each counted as often as its tail has parents.

The server repeats a task run's parents once for each of their own: 20,000 arrows between five
full layers make an answer of 95 MB and over a minute.  Beyond, a job is told with its first
parent only, so that it still stands after what it needs.
"""

_STAGES = {
    JobStatus.SCHEDULED: Stage.PENDING,
    JobStatus.QUEUED: Stage.QUEUED,
    JobStatus.RUNNING: Stage.RUNNING,
}
_TICK_S = 2e-6  # The server takes a state only if it is later than the last one.


class _Job:
    """How one job stands."""

    __slots__ = (
        "at",
        "attempt",
        "ended_at",
        "expected_at",
        "id",
        "message",
        "parents",
        "ran_s",
        "retries",
        "since",
        "stage",
        "started_at",
        "state",
        "tags",
    )

    def __init__(self, job_id: str, parents: tuple[str, ...], now: float) -> None:
        self.id = job_id
        self.parents = parents
        self.tags: tuple[str, ...] = ()
        self.retries = 0
        self.stage = Stage.PENDING
        self.state = prefect_state(JobStatus.SCHEDULED)
        self.since = now
        self.at = 0.0  # a job that only waits is told as of the run's start
        self.attempt = 0
        self.message = ""
        self.expected_at: float | None = None
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.ran_s: float | None = None

    def report(self, run_started_at: float) -> TaskRunReport:
        return TaskRunReport(
            key=self.id,
            stage=self.stage,
            state=self.state,
            at=self.at or run_started_at,
            message=self.message,
            attempt=self.attempt,
            expected_at=self.expected_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
            ran_s=self.ran_s,
            parents=self.parents,
            tags=self.tags,
            retries=self.retries,
        )


class ReportPlan:
    """Knows how the jobs of a run stand and what is to be told about them.

    ``singles`` is how many jobs, in the order in which they were added, are told one by one: all
    of them up to ``limit``; a run that outgrows the limit keeps those that it has and tells of
    all later ones as groups; a run that is above it from the start tells of groups only.  Given
    from an earlier reporter's cursor, so that both say the same.
    """

    def __init__(self, *, limit: int = REPORT_LIMIT, singles: int = 0) -> None:
        self._limit = limit
        self.singles = singles
        self.run_started_at = 0.0
        self.run_status: RunStatus | None = None
        """How the run ended; ``None`` while the journal does not say so."""
        self.run_counts: Mapping[str, int] = {}
        self.jobs = 0
        """How many jobs the run has so far."""
        self._jobs: dict[str, _Job] = {}
        self._groups = Groups()
        self._paths_left = PATHS
        self._starts: deque[float] = deque(maxlen=BURST_STARTS)
        self._released = False
        # What is to be told, oldest first.
        self._ends: dict[str, _Job] = {}
        self._short_ends: dict[str, _Job] = {}
        self._running: dict[str, _Job] = {}
        self._waiting: dict[str, _Job] = {}
        # Journal offsets of ends that the server has not confirmed, oldest first.
        self._open_ends: dict[str, int] = {}

    # -- what happens ----------------------------------------------------------------------

    def grow(self, count: int) -> None:
        """So many jobs are about to be added: decide whether they are told one by one."""
        if self.jobs + count <= self._limit:
            self.singles = max(self.singles, self.jobs + count)

    def add_job(self, line: Mapping[str, Any], now: float) -> None:
        """A job of the run, as a line of ``.jobs.jsonl``."""
        self.jobs += 1
        if self.jobs > self.singles:
            self._groups.add(line)
            return
        needs = tuple(map(str, line.get("needs", ())))
        job = _Job(str(line["id"]), self._parents(needs), now)
        job.tags = tuple(map(str, line.get("tags", ())))
        job.retries = int(line.get("retries", 0))
        self._jobs[job.id] = self._waiting[job.id] = job

    def _parents(self, needs: tuple[str, ...]) -> tuple[str, ...]:
        """Return which of its needs a job is told with."""
        jobs = self._jobs
        paths = sum(max(1, len(jobs[need].parents)) if need in jobs else 1 for need in needs)
        if paths > self._paths_left:
            return needs[:1]
        self._paths_left -= paths
        return needs

    def apply(self, entry: Mapping[str, Any], offset: int = 0, *, confirmed: bool = False) -> None:
        """Take in one entry of the journal that begins at ``offset`` or later.

        ``confirmed``: the server has it already if it is an end, so it need not be told.
        Raises ``KeyError``, ``ValueError`` or ``TypeError`` for an entry that is none.
        """
        event = entry["event"]
        if event == "job_status":
            self._job_changed(entry, offset, confirmed)
        elif event == "run_started":
            self._groups.run_started_at = self.run_started_at = from_iso_utc(entry["at"])
        elif event == "run_ended":
            self.release()
            self.run_status = RunStatus(entry["status"])
            self.run_counts = entry["counts"]

    def release(self) -> None:
        """Nothing more will happen: all that is left is due."""
        self._released = True

    def _job_changed(self, entry: Mapping[str, Any], offset: int, confirmed: bool) -> None:
        at = from_iso_utc(entry["at"])
        after = JobStatus(entry["to"])
        if after is JobStatus.RUNNING:
            self._starts.append(at)
        job = self._jobs.get(entry["job"])
        if job is None:
            self._groups.changed(entry, after, at)
            return
        for pending in (self._ends, self._short_ends, self._running, self._waiting):
            pending.pop(job.id, None)
        # Clocks may be set back, and the server goes by the time alone.
        job.at = max(at, (job.at or self.run_started_at) + _TICK_S)
        job.since = at
        job.attempt = int(entry["attempt"])
        cause = entry["cause"]
        job.message = str(cause["message"]) if cause else ""
        runtime_s = entry.get("runtime_s")
        ran_s = None if runtime_s is None else float(runtime_s)
        if ran_s is not None:
            job.ran_s = (job.ran_s or 0.0) + ran_s
        if after.is_end:
            self._job_ended(job, entry, after, ran_s, offset, confirmed)
            return
        self._reopen(job)
        job.stage = _STAGES[after]
        job.state = prefect_state(after)
        if after is JobStatus.RUNNING:
            job.started_at = at if job.started_at is None else job.started_at
            self._running[job.id] = job
        else:
            job.expected_at = at if job.expected_at is None else job.expected_at
            self._waiting[job.id] = job

    def _job_ended(
        self,
        job: _Job,
        entry: Mapping[str, Any],
        after: JobStatus,
        ran_s: float | None,
        offset: int,
        confirmed: bool,
    ) -> None:
        cause = entry["cause"]
        skipped = bool(entry.get("skipped"))
        kind = CauseKind(cause["kind"]) if cause else None
        job.stage = Stage.ENDED
        job.state = prefect_state(after, kind, skipped=skipped)
        job.ended_at = job.at
        if skipped:
            job.message = "spared: it passed before with the same inputs"
        if confirmed:
            return
        self._open_ends[job.id] = offset
        is_short = ran_s is None or ran_s < BURST_AGE_S
        (self._short_ends if is_short else self._ends)[job.id] = job

    def _reopen(self, job: _Job) -> None:
        # No journal of ours says so; one that does must not leave the counts wrong.
        if job.stage is Stage.ENDED:
            self._open_ends.pop(job.id, None)
            job.ended_at = None

    # -- what to say -----------------------------------------------------------------------

    def is_burst(self, now: float) -> bool:
        """Whether jobs start so fast that the server should be left alone."""
        starts = self._starts
        return (
            not self._released and len(starts) == BURST_STARTS and now - starts[0] <= BURST_WINDOW_S
        )

    def due(self, now: float, room: int) -> list[TaskRunReport]:
        """Hand out at most ``room`` reports, and at most 500, all of one stage.

        What was handed out counts as told.  Call again until it returns nothing.
        """
        room = min(room, BATCH)
        if room <= 0:
            return []
        groups = self._groups.due(now, room, released=self._released)
        if groups:
            return groups
        jobs = self._due_jobs(now, room)
        return [job.report(self.run_started_at) for job in jobs]

    def _due_jobs(self, now: float, room: int) -> list[_Job]:
        burst = self.is_burst(now)
        jobs = _take(self._ends, room)
        if not jobs and not burst:
            jobs = _take(self._short_ends, room)
        if not jobs:
            age_s = 0.0 if self._released else BURST_AGE_S if burst else SHORT_S
            jobs = _take_older(self._running, now - age_s, room)
        return jobs

    def due_waiting(self, now: float, room: int) -> list[TaskRunReport]:
        """Hand out jobs that wait, as ``due`` does; for when ``due`` has nothing."""
        if room < WAITING_ROOM or self.is_burst(now):
            return []
        age_s = 0.0 if self._released else WAITING_S
        jobs = _take_older(self._waiting, now - age_s, min(room, BATCH), same_stage=True)
        return [job.report(self.run_started_at) for job in jobs]

    def next_due_at(self, now: float) -> float | None:
        """Return when something becomes due by time alone; ``None`` if nothing will.

        What is due now already, and only lacked room, is not counted.
        """
        burst = self.is_burst(now)
        times = [self._groups.next_due_at()]
        if burst:
            times.append(self._starts[0] + BURST_WINDOW_S)
        times.append(_first_since(self._running, BURST_AGE_S if burst else SHORT_S))
        if not burst:
            times.append(_first_since(self._waiting, WAITING_S))
        return min((at for at in times if at is not None and at > now), default=None)

    # -- what has arrived --------------------------------------------------------------------

    def confirmed(self, reports: Iterable[TaskRunReport]) -> None:
        """The server has these ends."""
        for report in reports:
            if report.is_group:
                self._groups.confirmed(report.key)
            else:
                self._open_ends.pop(report.key, None)

    def confirmed_offset(self, end: int) -> int:
        """Return up to which byte of the journal the server has every end; at most ``end``."""
        return next(iter(self._open_ends.values()), end)

    @property
    def task_runs(self) -> int:
        """How many task runs the run has on the server when all has been told."""
        return len(self._jobs) + len(self._groups)

    @property
    def unconfirmed_ends(self) -> int:
        """How many task runs have ended without the server's having confirmed it."""
        return len(self._open_ends) + self._groups.unconfirmed


def _take(jobs: dict[str, _Job], count: int) -> list[_Job]:
    """Remove and return the first ones."""
    taken = list(islice(jobs.values(), count))
    for job in taken:
        del jobs[job.id]
    return taken


def _take_older(
    jobs: dict[str, _Job], before: float, count: int, *, same_stage: bool = False
) -> list[_Job]:
    """Remove and return the first ones that are in their state since then or longer."""
    taken: list[_Job] = []
    for job in islice(jobs.values(), count):
        if job.since > before or (same_stage and taken and job.stage is not taken[0].stage):
            break
        taken.append(job)
    for job in taken:
        del jobs[job.id]
    return taken


def _first_since(jobs: Mapping[str, _Job], age_s: float) -> float | None:
    first: Iterator[_Job] = iter(jobs.values())
    return next((job.since + age_s for job in first), None)

"""Groups of jobs as task runs of their own, for runs with too many jobs to tell one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from observers.prefect_events import Stage, TaskRunReport
from tasks.prefect_states import PrefectState, prefect_state
from tasks.sanitise import plain_text
from tasks.spec import default_group
from tasks.status import CauseKind, JobStatus

MAX_GROUPS = 500
"""Ids without a pattern could make a group of each job: later groups are told as one."""

OTHER = "other groups"

PROGRESS_EVERY_S = 60.0
"""How often a running group's counts are told anew."""

_NAME_CHARACTERS = 200
_TICK_S = 2e-6

# What a group is said to have ended as: the first of these that any of its jobs ended as.
_WORST_FIRST = (
    prefect_state(JobStatus.FAILED),
    prefect_state(JobStatus.KILLED, CauseKind.TIMEOUT),
    prefect_state(JobStatus.KILLED, CauseKind.DRIVER_LOST),
    prefect_state(JobStatus.KILLED, CauseKind.DEPENDENCY),
    prefect_state(JobStatus.KILLED, CauseKind.CANCELLED),
    prefect_state(JobStatus.PASSED),
    prefect_state(JobStatus.PASSED, skipped=True),
)


class GroupTally:
    """How many jobs of one group stand where, and what the server was told of it."""

    __slots__ = (
        "at",
        "confirmed",
        "counts",
        "ended",
        "ends",
        "name",
        "order",
        "parents",
        "queued_at",
        "started_at",
        "told",
        "told_at",
        "total",
    )

    def __init__(self, name: str, order: int) -> None:
        self.name = name
        self.order = order
        self.total = 0
        self.counts: dict[JobStatus, int] = dict.fromkeys(JobStatus, 0)
        self.ends: dict[PrefectState, int] = {}
        self.ended = 0
        self.at = 0.0
        self.queued_at: float | None = None
        self.started_at: float | None = None
        self.parents: dict[str, None] = {}
        self.told: Stage | None = None
        self.told_at = 0.0
        self.confirmed = False

    @property
    def stage(self) -> Stage:
        """How far the group has come: it runs from its first start to its last end."""
        if self.ended == self.total:
            return Stage.ENDED
        if self.ended or self.started_at is not None:
            return Stage.RUNNING
        return Stage.QUEUED if self.counts[JobStatus.QUEUED] else Stage.PENDING

    @property
    def state(self) -> PrefectState:
        """The state that summarises its jobs."""
        stage = self.stage
        if stage is Stage.ENDED:
            return next(state for state in _WORST_FIRST if state in self.ends)
        return prefect_state(_STATUS[stage])

    @property
    def message(self) -> str:
        """The counts in words."""
        said = [f"{count:,} {status.value}" for status, count in self.counts.items() if count]
        return ", ".join(said)

    def is_due(self, now: float, released: bool) -> bool:
        """Whether there is something to say: a new stage, or progress after a while."""
        if self.stage is not self.told:
            return True
        return self.stage is Stage.RUNNING and (released or now >= self.told_at + PROGRESS_EVERY_S)

    def report(self, now: float, run_started_at: float) -> TaskRunReport:
        """Return what is to be said now; it counts as told."""
        stage = self.stage
        self.told, self.told_at, self.confirmed = stage, now, False
        ended_at = self.at if stage is Stage.ENDED else None
        started_at = self.started_at
        both = started_at is not None and ended_at is not None
        return TaskRunReport(
            key=self.name,
            stage=stage,
            state=self.state,
            at=self.at or run_started_at,
            is_group=True,
            name=f"{self.name} ({self.total} jobs)",
            message=self.message,
            attempt=1 if started_at is not None else 0,
            expected_at=self.queued_at,
            started_at=started_at,
            ended_at=ended_at,
            ran_s=ended_at - started_at if both else None,  # type: ignore[operator]
            parents=tuple(self.parents),
        )


_STATUS = {
    Stage.PENDING: JobStatus.SCHEDULED,
    Stage.QUEUED: JobStatus.QUEUED,
    Stage.RUNNING: JobStatus.RUNNING,
}


class Groups:
    """The groups of a run.  Keeps counts alone, and the group's name of jobs that name one."""

    def __init__(self) -> None:
        self.by_name: dict[str, GroupTally] = {}
        self.run_started_at = 0.0
        self._named: dict[str, str] = {}
        self._changed: dict[str, GroupTally] = {}

    def __len__(self) -> int:
        return len(self.by_name)

    def add(self, line: Mapping[str, Any]) -> None:
        """A job joins its group."""
        job_id = line["id"]
        group = line.get("group")
        if group:
            self._named[job_id] = plain_text(str(group))[:_NAME_CHARACTERS]
        tally = self._tally_of(job_id)
        tally.total += 1
        tally.counts[JobStatus.SCHEDULED] += 1
        if tally.told is Stage.ENDED:
            tally.at += _TICK_S
        self._changed[tally.name] = tally
        for need in line.get("needs", ()):
            self._follow(tally, need)

    def changed(self, entry: Mapping[str, Any], after: JobStatus, at: float) -> None:
        """A job of a group moved."""
        before = JobStatus(entry["from"])
        tally = self._tally_of(entry["job"])
        counts = tally.counts
        counts[before] -= 1
        counts[after] += 1
        tally.at = max(at, tally.at + _TICK_S)
        if after is JobStatus.RUNNING:
            tally.started_at = at if tally.started_at is None else tally.started_at
        elif after is JobStatus.QUEUED:
            tally.queued_at = at if tally.queued_at is None else tally.queued_at
        elif after.is_end:
            cause = entry["cause"]
            state = prefect_state(
                after,
                CauseKind(cause["kind"]) if cause else None,
                skipped=bool(entry.get("skipped")),
            )
            tally.ended += 1
            tally.ends[state] = tally.ends.get(state, 0) + 1
        self._changed[tally.name] = tally

    def due(self, now: float, room: int, *, released: bool) -> list[TaskRunReport]:
        """Hand out at most ``room`` reports of one stage; they count as told."""
        due: list[GroupTally] = []
        for tally in self._changed.values():
            if len(due) == room:
                break
            if tally.is_due(now, released) and (not due or tally.stage is due[0].stage):
                due.append(tally)
        for tally in due:
            del self._changed[tally.name]
        return [tally.report(now, self.run_started_at) for tally in due]

    def next_due_at(self) -> float | None:
        """Return when the progress of a running group is due."""
        times = [tally.told_at for tally in self._changed.values() if tally.told is Stage.RUNNING]
        return min(times) + PROGRESS_EVERY_S if times else None

    def confirmed(self, name: str) -> None:
        """The server has the group's end."""
        self.by_name[name].confirmed = True

    @property
    def unconfirmed(self) -> int:
        """How many groups have ended without the server's having confirmed it."""
        return sum(
            tally.stage is Stage.ENDED and not tally.confirmed for tally in self.by_name.values()
        )

    def _tally_of(self, job_id: str) -> GroupTally:
        name = self._named.get(job_id) or default_group(job_id)
        tally = self.by_name.get(name)
        if tally is None:
            if len(self.by_name) >= MAX_GROUPS:
                name = OTHER
            tally = self.by_name.get(name) or GroupTally(name, len(self.by_name))
            self.by_name[name] = tally
        return tally

    def _follow(self, tally: GroupTally, need: str) -> None:
        """Draw an edge between groups, from earlier ones to later ones only: no cycles."""
        name = self._named.get(need) or default_group(need)
        if name not in tally.parents:
            needed = self.by_name.get(name)
            if needed is not None and needed.order < tally.order:
                tally.parents[name] = None

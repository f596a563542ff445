"""How many jobs of a run, and of each of its groups, stand where; what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from tasks.events import JobChanged
from tasks.spec import JobRecord
from tasks.status import JobStatus

_SCHEDULED = JobStatus.SCHEDULED.value
_QUEUED = JobStatus.QUEUED.value
_RUNNING = JobStatus.RUNNING.value


@dataclass(slots=True)
class Counts:
    """Jobs by status."""

    by_status: dict[str, int] = field(
        default_factory=lambda: {status.value: 0 for status in JobStatus}
    )

    def __getitem__(self, status: JobStatus) -> int:
        return self.by_status[status.value]

    @property
    def total(self) -> int:
        """All jobs, whatever their status."""
        return sum(self.by_status.values())

    @property
    def ended(self) -> int:
        """Jobs that will never change again."""
        return sum(count for status, count in self.by_status.items() if status not in _OPEN)

    def copy(self) -> Counts:
        """Return counts that do not change any more."""
        return Counts(dict(self.by_status))


_OPEN = frozenset({_SCHEDULED, _QUEUED, _RUNNING})


class RunCounts:
    """Counts for each group, kept from the same calls that an observer gets.

    Not thread-safe: whoever reads from another thread holds a lock of its own around both.
    """

    def __init__(self) -> None:
        self.groups: dict[str, Counts] = {}
        """Counts by group, in the order in which the groups appeared."""
        self._group_of: dict[str, Counts] = {}  # of jobs that have not ended
        self._started_at: dict[str, float] = {}  # running jobs, oldest first

    def add(self, jobs: Sequence[JobRecord]) -> None:
        """Count these jobs as SCHEDULED."""
        for job in jobs:
            name = job.group
            counts = self.groups.get(name)
            if counts is None:
                counts = self.groups[name] = Counts()
            counts.by_status[_SCHEDULED] += 1
            self._group_of[job.id] = counts

    def change(self, events: Sequence[JobChanged]) -> None:
        """Move jobs from one status to the next; one that was never added is ignored."""
        group_of, started_at = self._group_of, self._started_at
        for event in events:
            job_id = event.job.id
            counts = group_of.get(job_id)
            if counts is None:
                continue
            before, after = event.before._value_, event.after._value_
            by_status = counts.by_status
            by_status[before] -= 1
            by_status[after] += 1
            if after == _RUNNING:
                started_at[job_id] = event.at
            elif before == _RUNNING:
                started_at.pop(job_id, None)
            if after not in _OPEN:
                del group_of[job_id]

    @property
    def total(self) -> Counts:
        """The counts of all groups together."""
        total = Counts()
        for counts in self.groups.values():
            for status, count in counts.by_status.items():
                total.by_status[status] += count
        return total

    def oldest_running(self, limit: int) -> list[tuple[str, float]]:
        """Return the jobs that have run longest, with the time at which each began."""
        return list(islice(self._started_at.items(), limit))

"""The state of every job of a run, in parallel arrays by job number.

An object for each job would cost several times the memory and half the speed.  Numbers count
from 1 in the order in which jobs were added.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from tasks.spec import JobRecord
from tasks.status import JobStatus

SCHEDULED, QUEUED, RUNNING, PASSED, FAILED, KILLED = range(6)
"""The codes of ``JobTable.status``; those of ends are the greatest."""

STATUSES = tuple(JobStatus)
"""What each code stands for."""

NEEDS_ALL, NEEDS_ANY, ONE_PASSED = range(3)
"""The codes of ``JobTable.policy``; the last is ``NEEDS_ANY`` once one of the needs has passed."""

_NOBODY = JobRecord("0", "")


class JobTable:
    """One row for each job.  Written by the scheduler's thread alone, but for ``numbers``."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        """The number of each job id."""
        self.jobs: list[JobRecord] = [_NOBODY]
        self.kinds = array("I", [0])
        """The index of each job's kind among the scheduler's."""
        self.status = bytearray(1)
        self.policy = bytearray(1)
        self.attempts = array("I", [0])
        """How many attempts were launched."""
        self.waits = array("I", [0])
        """How many needs have not ended yet, a hold counted as one."""
        self._first_edge = array("I", [0])
        # Edges as linked lists: of each job the newest edge, of each edge the next older one
        # and the job that waits.  Edge 0 is the end of every list.
        self._next_edge = array("I", [0])
        self._waiting_job = array("I", [0])

    def extend(self, jobs: Sequence[JobRecord], kinds: array[int]) -> None:
        """Append rows: SCHEDULED, with nothing to wait for."""
        count = len(jobs)
        zeros = bytes(count)
        self.jobs.extend(jobs)
        self.kinds.extend(kinds)
        self.status.extend(zeros)
        self.policy.extend(zeros)
        for column in (self.attempts, self.waits, self._first_edge):
            column.frombytes(bytes(count * column.itemsize))

    def add_edge(self, need: int, job: int) -> None:
        """Note that a job waits for another one."""
        self._next_edge.append(self._first_edge[need])
        self._first_edge[need] = len(self._waiting_job)
        self._waiting_job.append(job)
        self.waits[job] += 1

    def waiting_for(self, need: int) -> Iterator[int]:
        """Yield the jobs that wait for this one, once for each edge, newest first."""
        next_edge, waiting_job = self._next_edge, self._waiting_job
        edge = self._first_edge[need]
        while edge:
            yield waiting_job[edge]
            edge = next_edge[edge]

    def with_status(self, code: int) -> Iterator[int]:
        """Yield the numbers of the jobs that have this status when their turn comes."""
        number = self.status.find(code, 1)
        while number > 0:
            yield number
            number = self.status.find(code, number + 1)

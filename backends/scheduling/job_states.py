"""The state machine of the jobs: every change of a status happens here, once, with its event."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from backends.scheduling.end_causes import need_did_not_pass, none_passed
from backends.scheduling.job_table import (
    FAILED,
    KILLED,
    NEEDS_ALL,
    NEEDS_ANY,
    ONE_PASSED,
    PASSED,
    QUEUED,
    RUNNING,
    SCHEDULED,
    STATUSES,
    JobTable,
)
from backends.scheduling.news import News
from backends.scheduling.ready_queue import JobKind
from tasks.events import JobChanged, JobEnd
from tasks.spec import JobRecord
from tasks.status import Cause

NOTHING_RAN = JobEnd()
_SPARED = JobEnd(skipped=True)


class JobStates:
    """Moves jobs from status to status and carries ends on to the jobs that wait for them."""

    def __init__(self, table: JobTable, kinds: Sequence[JobKind], news: News) -> None:
        self.table = table
        self.counts = [0] * len(STATUSES)
        """How many jobs have each status, by its code."""
        self.skipped = 0
        self.ready: list[int] = []
        """Jobs that have nothing to wait for any more, until somebody queues them."""
        self._kinds = kinds
        self._news = news
        self._is_heard = news.watcher is not None
        self._root: dict[int, int] = {}
        # For each job that ended because of a need: the job with which that began.

    @property
    def unended(self) -> int:
        """How many jobs have not ended."""
        counts = self.counts
        return counts[SCHEDULED] + counts[QUEUED] + counts[RUNNING]

    def add(
        self,
        jobs: Sequence[JobRecord],
        *,
        at: float,
        passed: Collection[str],
        held: Collection[str],
    ) -> None:
        """Take in the last rows of the table; those that nothing holds become ready.

        Those in ``passed`` pass without running; those in ``held`` wait for ``release``, too.
        """
        self.counts[SCHEDULED] += len(jobs)
        first = len(self.table.jobs) - len(jobs)
        if passed:
            self._spare(jobs, first, at, passed)
        self.link_all(jobs, first, at=at, held=held)

    def link_all(
        self, jobs: Sequence[JobRecord], first: int, *, at: float, held: Collection[str] = ()
    ) -> None:
        """Make those of the jobs that are SCHEDULED wait for their needs."""
        doomed: list[int] = []
        waits, status = self.table.waits, self.table.status
        for number, job in enumerate(jobs, first):
            if status[number] != SCHEDULED:
                continue
            if held and job.id in held:
                waits[number] = 1
            if job.needs and not self._link(number, job):
                doomed.append(number)
            elif not waits[number]:
                self.ready.append(number)
        for number in doomed:
            self._end_for_ended_needs(number, at)

    def take_over(self, jobs: Sequence[JobRecord], statuses: Sequence[int], skipped: int) -> None:
        """Take in the last rows of the table as they stand, untold: the world knows already.

        Those that are SCHEDULED wait for ``link_all``.
        """
        first = len(self.table.jobs) - len(jobs)
        self.table.status[first:] = bytes(statuses)
        for code in statuses:
            self.counts[code] += 1
        self.skipped += skipped

    def release(self, number: int, at: float) -> None:
        """Take away one thing that a SCHEDULED job waits for."""
        if self.table.status[number] == SCHEDULED:
            self.table.waits[number] -= 1
            if not self.table.waits[number]:
                self._needs_have_ended(number, at)

    def queue(self, numbers: Sequence[int], at: float) -> None:
        """These SCHEDULED jobs can run as soon as something is free."""
        self._move(numbers, SCHEDULED, QUEUED, at)

    def start(self, numbers: Sequence[int], at: float) -> None:
        """An attempt of each of these QUEUED jobs, counted already, begins."""
        self._move(numbers, QUEUED, RUNNING, at)

    def repeat(self, number: int, at: float, cause: Cause | None, end: JobEnd) -> None:
        """An attempt ended, and there will be another."""
        self._change(number, QUEUED, at, cause, end)

    def end(
        self, number: int, code: int, at: float, cause: Cause | None, end: JobEnd = NOTHING_RAN
    ) -> None:
        """End a job, and with it every job that can never run now; others become ready."""
        self._change(number, code, at, cause, end)
        self._carry_on(number, at)

    def end_together(self, numbers: Sequence[int], code: int, at: float, cause: Cause) -> None:
        """End jobs that may wait for each other, all for the same cause."""
        for number in numbers:
            self._change(number, code, at, cause, NOTHING_RAN)
        for number in numbers:
            self._carry_on(number, at)

    def _spare(
        self, jobs: Sequence[JobRecord], first: int, at: float, passed: Collection[str]
    ) -> None:
        for number, job in enumerate(jobs, first):
            if job.id in passed:
                self.skipped += 1
                self._change(number, PASSED, at, None, _SPARED)

    def _link(self, number: int, job: JobRecord) -> bool:
        """Make a job wait for its needs; return whether the ended ones let it run at all."""
        table = self.table
        numbers, status = table.numbers, table.status
        if job.rest.get("needs_policy") == "any":
            return self._link_any(number, job)
        runs = True
        for need_id in job.needs:
            need = numbers[need_id]
            if status[need] <= RUNNING:
                table.add_edge(need, number)
            elif status[need] != PASSED:
                runs = False
        return runs

    def _link_any(self, number: int, job: JobRecord) -> bool:
        table = self.table
        table.policy[number] = NEEDS_ANY
        for need_id in job.needs:
            need = table.numbers[need_id]
            if table.status[need] <= RUNNING:
                table.add_edge(need, number)
            elif table.status[need] == PASSED:
                table.policy[number] = ONE_PASSED
        return table.waits[number] > 0 or table.policy[number] == ONE_PASSED

    def _end_for_ended_needs(self, number: int, at: float) -> None:
        """End a job whose needs had ended before it was added."""
        table = self.table
        if table.status[number] != SCHEDULED:
            return
        for need_id in table.jobs[number].needs:
            need = table.numbers[need_id]
            if table.status[need] in (FAILED, KILLED):
                self._end_dependent(number, need, at)
                self._carry_on(number, at)
                return

    def _carry_on(self, number: int, at: float) -> None:
        """Tell the jobs that wait for an ended one, those that wait for these, and so on."""
        if not self.counts[SCHEDULED]:
            return
        table = self.table
        status, waits, policy = table.status, table.waits, table.policy
        ended = [number]
        for need in ended:  # grows while it is walked
            has_passed = status[need] == PASSED
            for job in table.waiting_for(need):
                if status[job] != SCHEDULED:
                    continue
                waits[job] -= 1
                if has_passed:
                    if policy[job] == NEEDS_ANY:
                        policy[job] = ONE_PASSED
                elif policy[job] == NEEDS_ALL:
                    self._end_dependent(job, need, at)
                    ended.append(job)
                    continue
                if waits[job]:
                    continue
                if policy[job] == NEEDS_ANY:
                    self._end_dependent(job, need, at)
                    ended.append(job)
                else:
                    self.ready.append(job)

    def _needs_have_ended(self, number: int, at: float) -> None:
        if self.table.policy[number] == NEEDS_ANY:
            self._end_for_ended_needs(number, at)
        else:
            self.ready.append(number)

    def _end_dependent(self, number: int, need: int, at: float) -> None:
        root = self._root[number] = self._root.get(need, need)
        self._change(number, KILLED, at, self._dependency_cause(number, need, root), NOTHING_RAN)

    def _dependency_cause(self, number: int, need: int, root: int) -> Cause | None:
        if not self._is_heard:
            return None
        jobs = self.table.jobs
        if self.table.policy[number] == NEEDS_ANY:
            return none_passed(jobs[number].needs, jobs[root].id)
        return need_did_not_pass(jobs[need].id, STATUSES[self.table.status[need]], jobs[root].id)

    def _move(self, numbers: Sequence[int], before: int, after: int, at: float) -> None:
        """Change many jobs in the same way."""
        status = self.table.status
        for number in numbers:
            status[number] = after
        self.counts[before] -= len(numbers)
        self.counts[after] += len(numbers)
        if self._is_heard:
            for number in numbers:
                self._tell(number, before, at, None, None)

    def _change(
        self,
        number: int,
        after: int,
        at: float,
        cause: Cause | None = None,
        end: JobEnd | None = None,
    ) -> None:
        table = self.table
        before = table.status[number]
        table.status[number] = after
        self.counts[before] -= 1
        self.counts[after] += 1
        if self._is_heard:
            self._tell(number, before, at, cause, end)

    def _tell(
        self, number: int, before: int, at: float, cause: Cause | None, end: JobEnd | None
    ) -> None:
        table = self.table
        self._news.changes.append(
            JobChanged(
                at,
                table.jobs[number],
                STATUSES[before],
                STATUSES[table.status[number]],
                table.attempts[number],
                self._kinds[table.kinds[number]].backend,
                cause,
                end,
            )
        )

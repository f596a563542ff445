"""The scheduler: which job runs when, and what its end means for the others.

Everything happens in the one thread that is in ``run``.  Others put requests into its inbox;
so do the backends with what became of attempts.  The thread sleeps until something is there or
a retry's delay is over; there is no polling.  In one turn it takes in what has come, launches
what can start, one batch for each backend, and then tells the watcher what has changed: while
the observers write their files the backends work already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from functools import partial
from queue import Empty, SimpleQueue

from backends.base import Backend
from backends.scheduling.engine import Engine, StuckError
from backends.scheduling.intake import Intake
from backends.scheduling.job_table import (
    FAILED,
    KILLED,
    PASSED,
    QUEUED,
    RUNNING,
    SCHEDULED,
    STATUSES,
    JobTable,
)
from backends.scheduling.limits import Limits, ResourceLimit
from backends.scheduling.news import News
from backends.scheduling.past import LiveAttempt, PastJob
from backends.scheduling.priority import Priority, weight_then_critical_path
from backends.scheduling.waiting import Waiting, waiting_for_supplies
from backends.scheduling.watcher import Watcher
from backends.timers import Timers
from tasks.clock import EngineClock, SystemClock
from tasks.errors import StateError, UnknownError
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind, JobStatus

__all__ = ["Limits", "LiveAttempt", "PastJob", "Scheduler", "StuckError", "Waiting", "Watcher"]

_LONGEST_WAIT_S = 3600.0
"""What the thread sleeps at most at a time: the system refuses to wait for centuries."""

Request = Callable[[], None]


class Scheduler:
    """Runs a growing graph of jobs on backends, within limits, each job to exactly one end.

    ``watcher`` is told everything; with ``None`` no event is ever made.  ``durations_s`` are
    seconds by job id from earlier runs, for the critical path.  A backend that shares ``timers``
    runs in the scheduler's thread and on its clock: with a virtual or manual one a whole run is
    deterministic.

    Every method may be called from any thread, also from a watcher's; requests return at once
    and take effect in the next turn, in the order in which they were made.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        default_backend: str,
        watcher: Watcher | None = None,
        *,
        limits: Limits | None = None,
        fail_fast: bool = False,
        clock: EngineClock | None = None,
        timers: Timers | None = None,
        priority: Priority = weight_then_critical_path,
        durations_s: Mapping[str, float] | None = None,
    ) -> None:
        self.timers = timers or Timers(clock or SystemClock())
        self._table = JobTable()
        self._intake = Intake(default_backend, limits or Limits(), self._table)
        self._news = News(watcher)
        self._engine = Engine(
            self._intake,
            self._table,
            self._news,
            self.timers,
            fail_fast=fail_fast,
            priority=priority,
            durations_s=durations_s or {},
        )
        self._inbox: SimpleQueue[Request] = SimpleQueue()
        self._door = threading.Lock()
        # Held while jobs are numbered: they come into the inbox in the order of their numbers.
        self._is_closed = False
        self._is_finished = False
        self._is_over = False
        self._published: tuple[int, ...] = (0,) * (len(STATUSES) + 1)
        for name, backend in backends.items():
            self.add_backend(name, backend)

    # -- requests --------------------------------------------------------------------------

    def add_backend(self, name: str, backend: Backend) -> None:
        """Start a backend and let jobs name it.

        The scheduler never closes a backend: its owner does, after ``run``, whatever ``run``
        raised.  Raises what ``Backend.start`` raises.
        """
        self._start(backend)
        with self._door:
            self._intake.add_backend(name, backend)

    def _start(self, backend: Backend) -> None:
        backend.start(
            lambda completions: self._inbox.put(partial(self._engine.complete, completions))
        )

    def add(
        self,
        jobs: Sequence[JobRecord],
        *,
        passed: Collection[str] = (),
        held: Collection[str] = (),
    ) -> None:
        """Add jobs, which may need each other and any job added before, ended ones too.

        Jobs whose ids are in ``passed`` are spared: they end as PASSED, ``skipped``, without
        running.  Those in ``held`` also wait for ``release``.  Other ids in either are ignored.

        Raises ``InputError`` with every problem found, then none of the jobs was added, and
        ``StateError`` after ``finish``.  Jobs that are added after ``kill_all`` end at once.
        """
        jobs = list(jobs)
        with self._door:
            if self._is_closed:
                raise StateError("no job can be added: the run has been told that it is complete")
            kinds = self._intake.accept(jobs)
            self._inbox.put(partial(self._engine.add, jobs, kinds, _as_set(passed), _as_set(held)))

    def take_over(
        self, name: str, backend: Backend, jobs: Sequence[JobRecord], past: Mapping[str, PastJob]
    ) -> None:
        """Begin with jobs that a driver which died has led so far, before ``run``.

        ``past`` says by id where they stand; what is not in it has not been told of yet.  The
        ``backend``, not yet started, tells how live attempts end; others are added before.  The
        watcher has been told of the jobs and of where they stand.  Raises ``InputError`` as
        ``add`` does, and what ``Backend.start`` raises.
        """
        jobs = list(jobs)
        with self._door:
            self._intake.add_backend(name, backend)
            kinds = self._intake.accept(jobs)
            self._inbox.put(partial(self._engine.take_over, jobs, kinds, past))
        # Only now: the ends that it has been waiting to tell are those of these jobs.
        self._start(backend)

    def release(self, job_id: str, cause: Cause | None = None) -> None:
        """What a held job waited for outside the run is there: it waits for its needs alone.

        With a ``cause`` it never will be: the job ends as KILLED, and what needs it with it.
        A job that has ended, or was released before, stays as it is.  Raises ``UnknownError``
        for an id that was never added.
        """
        number = self._number(job_id)
        self._inbox.put(partial(self._engine.release, number, cause))

    def finish(self) -> None:
        """No job will be added any more: ``run`` returns when all have ended.  Idempotent."""
        with self._door:
            self._is_closed = True
            self._inbox.put(self._finish)

    def kill_all(
        self,
        by: str,
        reason: str,
        grace_s: float | None = None,
        kind: CauseKind = CauseKind.CANCELLED,
    ) -> None:
        """End every job: those that wait at once, running ones through their backends.

        ``grace_s``: seconds between SIGTERM and SIGKILL, ``None`` for each job's own.  A job
        that was killed for this has a cause of this kind; one that ends by itself meanwhile
        keeps its real end.  Nothing is retried.  A second call may shorten the grace; the first
        cause stays.  ``run`` still waits for ``finish``.
        """
        self._inbox.put(partial(self._engine.kill_all, by, reason, grace_s, kind))

    def kill(
        self, job_ids: Sequence[str], by: str, reason: str, grace_s: float | None = None
    ) -> None:
        """End some jobs as ``kill_all`` does; ended ones stay as they are.

        Jobs that need them end with the cause ``dependency``.  Raises ``UnknownError`` for ids
        that were never added, then none was killed.
        """
        numbers = list(dict.fromkeys(map(self._number, job_ids)))
        self._inbox.put(partial(self._engine.kill, numbers, by, reason, grace_s))

    def pause(self, by: str = "") -> None:
        """Start nothing until ``unpause``; what runs goes on."""
        self._inbox.put(partial(self._engine.pause, by))

    def unpause(self, by: str = "") -> None:
        """Start jobs again."""
        self._inbox.put(partial(self._engine.unpause, by))

    def set_limits(
        self,
        max_parallel: int | None = None,
        backends: Mapping[str, int] | None = None,
        resources: Mapping[str, ResourceLimit] | None = None,
    ) -> None:
        """Change limits; ``None`` leaves them as they are.

        Nothing that runs is ended: a lower limit holds as soon as enough has been handed back.
        Jobs that ask for more than there now is wait until the limit is raised again.  Raises
        ``InputError`` for limits that make no sense.
        """
        with self._door:
            limits = self._intake.limits.changed(max_parallel, backends, resources)
            self._intake.limits = limits
            self._inbox.put(partial(self._engine.apply, limits))

    # -- reads -----------------------------------------------------------------------------

    def status(self, job_id: str) -> JobStatus:
        """Return where a job stands; raises ``UnknownError`` for an id that was never added."""
        number, status = self._number(job_id), self._table.status
        # A job that was added a moment ago has its number, but no row yet.
        return STATUSES[status[number]] if number < len(status) else JobStatus.SCHEDULED

    def counts(self) -> dict[str, int]:
        """Return how many jobs there are of each status, as of the newest turn.

        ``passed``, ``failed``, ``killed`` and ``skipped`` always, the others where they are not
        0.  The statuses add up to all jobs; ``skipped`` says how many of ``passed`` were spared.
        """
        published = self._published
        counts = {STATUSES[code].value: published[code] for code in (PASSED, FAILED, KILLED)}
        counts["skipped"] = published[-1]
        for code in (SCHEDULED, QUEUED, RUNNING):
            if published[code]:
                counts[STATUSES[code].value] = published[code]
        return counts

    def waiting_for(self) -> list[Waiting]:
        """Return what queued jobs wait for, the most jobs first; for displays.

        ``str`` of an entry reads ``12 jobs wait for licence (2 of 2 in use)``.
        """
        engine, intake = self._engine, self._intake
        waiting: list[Waiting] = []
        if engine.is_paused:
            waiting.append(Waiting(self._published[QUEUED], "unpause"))
        else:
            waiting += waiting_for_supplies(list(intake.kinds), intake.supplies.slots)
            waiting.append(Waiting(len(engine.delayed), "the delay before their retry"))
        waiting.append(Waiting(engine.waiting_holds, "something outside of the run"))
        return [each for each in waiting if each.jobs]

    # -- the thread ------------------------------------------------------------------------

    def run(self) -> Mapping[str, int]:
        """Run until ``finish`` was called and every job has ended; return ``counts()``.

        Raises ``StuckError`` when jobs are left that nothing can ever start, after it has ended
        them, and what the watcher raises; then jobs may be running, and the owner of the
        backends ends them with ``close``.
        """
        while not self._is_over:
            self._turn(self._next_request())
        return self.counts()

    def run_until_idle(self) -> None:
        """Do everything that can be done without waiting, in the caller's thread.

        For a clock that is moved by hand; instead of ``run``.
        """
        while not self._is_over:
            request = self._waiting_request()
            if request is None and not self.timers.has_due() and not self._news:
                return
            self._turn(request)

    def _next_request(self) -> Request | None:
        """Return the next request, ``None`` when it is time for a timer or for news."""
        request = self._waiting_request()
        if request is not None or self._news:
            return request
        wait_s = self.timers.wait_s()
        try:
            return self._inbox.get(timeout=None if wait_s is None else min(wait_s, _LONGEST_WAIT_S))
        except Empty:
            return None

    def _waiting_request(self) -> Request | None:
        try:
            return self._inbox.get_nowait()
        except Empty:
            return None

    def _turn(self, request: Request | None) -> None:
        engine = self._engine
        engine.begin_turn()
        # What is there now and no more: a quick backend must not keep a turn from its end.
        left = self._inbox.qsize()
        while request is not None:
            request()
            request = self._waiting_request() if left > 0 else None
            left -= 1
        self.timers.run_due()
        stuck = engine.step()
        self._publish()
        self._is_over = self._is_over or stuck is not None
        self._news.tell(has_other_work=self._has_requests)
        if stuck is not None:
            raise stuck

    def _publish(self) -> None:
        states = self._engine.states
        self._published = (*states.counts, states.skipped)
        self._is_over = self._is_finished and not states.unended

    def _has_requests(self) -> bool:
        return not self._is_over and not self._inbox.empty()

    def _finish(self) -> None:
        self._is_finished = True

    def _number(self, job_id: str) -> int:
        number = self._table.numbers.get(job_id)
        if number is None:
            raise UnknownError(f'there is no job "{job_id}" in this run')
        return number


def _as_set(ids: Collection[str]) -> Collection[str]:
    """Return something in which an id is found at once."""
    return ids if isinstance(ids, (Set, Mapping)) else frozenset(ids)

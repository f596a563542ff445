"""What the scheduler does in its one thread: requests in, launches and news out."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import islice

from backends.base import NO_RESOURCES, Backend, Completion, Launch
from backends.scheduling.critical_path import CriticalPath
from backends.scheduling.end_causes import (
    ended_by_backend,
    launch_raised,
    never_started,
    requested,
    with_remark,
)
from backends.scheduling.intake import Intake
from backends.scheduling.job_states import NOTHING_RAN, JobStates
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
from backends.scheduling.limits import Limits
from backends.scheduling.news import News
from backends.scheduling.past import LiveAttempt, PastJob
from backends.scheduling.priority import Priority
from backends.scheduling.ready_queue import ReadyQueue
from backends.scheduling.retries import Retries
from backends.timers import Timers
from tasks.errors import HoldfastError
from tasks.events import JobEnd, KillRequested, RunPaused, RunUnpaused
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind, JobStatus

_log = logging.getLogger("holdfast.scheduler")

_NOT_ITS_OWN = frozenset({CauseKind.CANCELLED, CauseKind.DEPENDENCY})
"""Causes that come from other jobs or from people; fail-fast does not react to them."""

_CODES = {JobStatus.PASSED: PASSED, JobStatus.FAILED: FAILED, JobStatus.KILLED: KILLED}
_NAMED_WHEN_STUCK = 10


class StuckError(HoldfastError):
    """Jobs were left that nothing could ever start: a bug, and the run was ended."""


class Engine:
    """Reacts to requests; ``step`` then launches what can start.  Belongs to one thread."""

    def __init__(
        self,
        intake: Intake,
        table: JobTable,
        news: News,
        timers: Timers,
        *,
        fail_fast: bool,
        priority: Priority,
        durations_s: Mapping[str, float],
    ) -> None:
        self.states = JobStates(table, intake.kinds, news)
        self.delayed: set[int] = set()
        """Queued jobs whose next attempt is to start later."""
        self.is_paused = False
        self._table = table
        self._kinds = intake.kinds
        self._supplies = intake.supplies
        self._backends: Mapping[str, Backend] = intake.backends
        self._ready = ReadyQueue(table.status, intake.supplies.all)
        self._news = news
        self._timers = timers
        self._now = timers.clock.time()
        self._fail_fast = fail_fast
        self._priority = priority
        self._paths = CriticalPath(table, durations_s)
        self._retries = Retries()
        self._held: set[int] = set()
        self._handed_out: dict[int, Mapping[str, tuple[str, ...]]] = {}
        self._kill_causes: dict[int, Cause] = {}
        # For running jobs that somebody asked to be killed: why.
        self._final_cause: Cause | None = None
        # Why the whole run was ended, from then on.
        self._first_failure: str | None = None
        self._failed_launches: list[tuple[str, list[Launch], Exception]] = []

    @property
    def waiting_holds(self) -> int:
        """How many jobs wait for ``release``.  May be asked from any thread."""
        status = self._table.status
        return sum(status[number] == SCHEDULED for number in list(self._held))

    # -- requests --------------------------------------------------------------------------

    def begin_turn(self) -> None:
        """Look at the clock, once for all that happens in a turn."""
        self._now = self._timers.clock.time()

    def add(
        self,
        jobs: Sequence[JobRecord],
        kinds: array[int],
        passed: Collection[str],
        held: Collection[str],
    ) -> None:
        """Take in jobs that the intake has accepted."""
        first = len(self._table.jobs)
        self._table.extend(jobs, kinds)
        self._news.announce(lambda watcher: watcher.jobs_added(jobs))
        if held:
            self._held.update(n for n, job in enumerate(jobs, first) if job.id in held)
        self._paths.add(jobs)
        self.states.add(jobs, at=self._now, passed=passed, held=held)
        if self._final_cause is not None:
            self._end_all_waiting(self._final_cause)

    def take_over(
        self, jobs: Sequence[JobRecord], kinds: array[int], past: Mapping[str, PastJob]
    ) -> None:
        """Take in jobs as a driver that died left them; the watcher knows them as they stand."""
        table, first = self._table, len(self._table.jobs)
        table.extend(jobs, kinds)
        self._paths.add(jobs)
        known = [(number, past[job.id]) for number, job in enumerate(jobs, first) if job.id in past]
        statuses = [SCHEDULED] * len(jobs)
        for number, each in known:
            statuses[number - first] = STATUSES.index(each.status)
            table.attempts[number] = each.attempt
            for cause, end in each.repeated:
                self._retries.take(number, table.jobs[number], cause, end)
            if self._fail_fast and each.status is JobStatus.FAILED:
                self._first_failure = self._first_failure or table.jobs[number].id
        self.states.take_over(jobs, statuses, sum(each.skipped for _, each in known))
        # Attempts that live come first: one that was started needs nothing any more, even if
        # the ends that it waited for have not been told.
        for number, each in known:
            if each.live is not None and not each.status.is_end:
                self._go_on_with(number, each.live)
        self.states.link_all(jobs, first, at=self._now)
        for number, each in known:
            if each.live is None and not each.status.is_end:
                self._wait_again(number, each)

    def _go_on_with(self, number: int, live: LiveAttempt) -> None:
        """Bring a job to RUNNING with an attempt that was started before."""
        table = self._table
        at = self._now if live.started_at is None else live.started_at
        if table.status[number] == RUNNING and table.attempts[number] != live.attempt:
            self.states.repeat(number, at, None, NOTHING_RAN)
        elif table.status[number] == SCHEDULED:
            self.states.queue([number], at)
        if table.status[number] == QUEUED:
            table.attempts[number] = live.attempt
            self.states.start([number], at)
        self._handed_out[number] = live.resources
        self._ready.claim(self._kinds[table.kinds[number]], live.resources)

    def _wait_again(self, number: int, past: PastJob) -> None:
        """Have a job queued that was, or of which an attempt was announced and never started."""
        if past.status is JobStatus.RUNNING:
            self.states.repeat(number, self._now, never_started(), NOTHING_RAN)
            self._table.attempts[number] -= 1
            self._push([number])
        elif past.status is JobStatus.QUEUED:
            left_s = self._table.jobs[number].retry_delay_s - (self._now - past.at)
            if past.repeated and left_s > 0:
                self._delay(number, left_s)
            else:
                self._push([number])

    def release(self, number: int, cause: Cause | None) -> None:
        """End the hold on a job, or with a cause the job."""
        if number not in self._held:
            return
        self._held.remove(number)
        if cause is None:
            self.states.release(number, self._now)
        elif self._table.status[number] == SCHEDULED:
            self.states.end(number, KILLED, self._now, cause)

    def kill_all(self, by: str, reason: str, grace_s: float | None, kind: CauseKind) -> None:
        """End what waits, ask the backends to end what runs."""
        if self._final_cause is None:
            self._final_cause = requested(kind, by, reason)
        event = KillRequested(self._now, by, reason)
        self._news.announce(lambda watcher: watcher.kill_requested(event))
        self._kill_running(list(self._table.with_status(RUNNING)), grace_s)
        self._end_all_waiting(self._final_cause)

    def kill(self, numbers: Sequence[int], by: str, reason: str, grace_s: float | None) -> None:
        """End some jobs."""
        table = self._table
        cause = requested(CauseKind.CANCELLED, by, reason)
        ids = [table.jobs[number].id for number in numbers]
        event = KillRequested(self._now, by, reason, ids)
        self._news.announce(lambda watcher: watcher.kill_requested(event))
        running = [number for number in numbers if table.status[number] == RUNNING]
        for number in running:
            self._kill_causes.setdefault(number, cause)
        self._kill_running(running, grace_s)
        self._end_waiting([n for n in numbers if table.status[n] < RUNNING], cause)

    def pause(self, by: str) -> None:
        """Start nothing."""
        if not self.is_paused:
            self.is_paused = True
            event = RunPaused(self._now, by)
            self._news.announce(lambda watcher: watcher.run_paused(event))

    def unpause(self, by: str) -> None:
        """Start jobs again."""
        if self.is_paused:
            self.is_paused = False
            event = RunUnpaused(self._now, by)
            self._news.announce(lambda watcher: watcher.run_unpaused(event))

    def apply(self, limits: Limits) -> None:
        """Let other limits hold."""
        self._supplies.apply(limits)
        self._ready.limits_changed()

    # -- completions -----------------------------------------------------------------------

    def complete(self, completions: Sequence[Completion]) -> None:
        """Take in how attempts ended."""
        status, attempts, kinds = self._table.status, self._table.attempts, self._table.kinds
        for completion in completions:
            number = completion.number
            if (
                not 0 < number < len(status)
                or status[number] != RUNNING
                or attempts[number] != completion.attempt
            ):
                _log.warning("ignored: %r; no such attempt runs", completion)
                continue
            kind = self._kinds[kinds[number]]
            self._ready.give_back(kind, self._handed_out.pop(number, NO_RESOURCES))
            at = self._now if completion.ended_at is None else completion.ended_at
            if completion.status is JobStatus.PASSED:
                if self._kill_causes:
                    self._kill_causes.pop(number, None)
                self.states.end(number, PASSED, at, None, completion.end)
            else:
                self._did_not_pass(completion, kind.backend, at)

    def _did_not_pass(self, completion: Completion, backend: str, at: float) -> None:
        number, cause, end = completion.number, completion.cause, completion.end
        asked = self._kill_causes.pop(number, self._final_cause)
        job = self._table.jobs[number]
        if asked is None and self._retries.take(number, job, cause, end):
            self._repeat(number, job, at, cause, end)
            return
        if cause is None:
            cause = asked or ended_by_backend(backend)
        elif asked is not None and cause.kind is CauseKind.CANCELLED:
            cause = with_remark(asked, cause)
        self.states.end(number, _CODES[completion.status], at, cause, end)
        if self._fail_fast and cause.kind not in _NOT_ITS_OWN and self._first_failure is None:
            self._first_failure = job.id

    def _repeat(
        self, number: int, job: JobRecord, at: float, cause: Cause | None, end: JobEnd
    ) -> None:
        self.states.repeat(number, at, cause, end)
        if job.retry_delay_s > 0:
            self._delay(number, job.retry_delay_s)
        else:
            self._push([number])

    def _delay(self, number: int, delay_s: float) -> None:
        self.delayed.add(number)
        moment = self._timers.clock.monotonic() + delay_s
        self._timers.call_at(moment, partial(self._delay_is_over, number))

    def _delay_is_over(self, number: int) -> None:
        if number in self.delayed:
            self.delayed.remove(number)
            self._push([number])

    # -- a step ----------------------------------------------------------------------------

    def step(self) -> StuckError | None:
        """Start what can start now; return why the run cannot go on, if it cannot."""
        self._now = self._timers.clock.time()
        self._start_what_can()
        while self._failed_launches:
            self._end_failed_launches()
            self._start_what_can()
        return self._end_if_stuck()

    def _start_what_can(self) -> None:
        if self._first_failure is not None and self._final_cause is None:
            reason = f'cancelled by fail-fast: job "{self._first_failure}" did not pass'
            self.kill_all("fail-fast", reason, None, CauseKind.CANCELLED)
        self._queue_ready()
        self._launch()

    def _queue_ready(self) -> None:
        ready = self.states.ready
        if ready:
            self.states.ready = []
            status = self._table.status
            numbers = [number for number in ready if status[number] == SCHEDULED]
            self.states.queue(numbers, self._now)
            self._push(numbers)

    def _push(self, numbers: Sequence[int]) -> None:
        jobs, kind_of, kinds = self._table.jobs, self._table.kinds, self._kinds
        priority, push = self._priority, self._ready.push
        paths_s = self._paths.seconds
        for number in numbers:
            key = priority(jobs[number], paths_s[number] if paths_s else 0.0)
            push(kinds[kind_of[number]], key, number)

    def _launch(self) -> None:
        if self.is_paused:
            return
        table = self._table
        batches: dict[str, list[Launch]] = {}
        for kind, numbers in self._ready.take():
            batch = batches.setdefault(kind.backend, [])
            for number in numbers:
                table.attempts[number] = attempt = table.attempts[number] + 1
                ids = NO_RESOURCES
                if kind.pooled:
                    ids = self._handed_out[number] = kind.hand_out()
                batch.append(Launch(number, table.jobs[number], attempt, ids))
            self.states.start(numbers, self._now)
        for name, batch in batches.items():
            try:
                self._backends[name].launch(batch)
            except Exception as error:  # noqa: BLE001 - it is these jobs' end, not the run's
                _log.exception('backend "%s" raised in launch, which it must not', name)
                self._failed_launches.append((name, batch, error))

    def _end_failed_launches(self) -> None:
        name, batch, error = self._failed_launches.pop()
        # Some may have been launched before it raised: they must not run on unwatched.
        self._ask_to_kill(name, [launch.number for launch in batch], 0.0)
        cause = launch_raised(name, error)
        self.complete(
            [
                Completion(launch.number, launch.attempt, JobStatus.FAILED, NOTHING_RAN, cause)
                for launch in batch
            ]
        )

    # -- ends that are decided here --------------------------------------------------------

    def _kill_running(self, numbers: Sequence[int], grace_s: float | None) -> None:
        by_backend: dict[str, list[int]] = {}
        for number in numbers:
            backend = self._kinds[self._table.kinds[number]].backend
            by_backend.setdefault(backend, []).append(number)
        for name, batch in by_backend.items():
            self._ask_to_kill(name, batch, grace_s)

    def _ask_to_kill(self, backend: str, numbers: Sequence[int], grace_s: float | None) -> None:
        try:
            self._backends[backend].kill(numbers, grace_s)
        except Exception:  # noqa: BLE001 - what is being ended must not depend on it
            _log.exception('backend "%s" raised in kill, which it must not', backend)

    def _end_all_waiting(self, cause: Cause) -> None:
        table = self._table
        self._end_waiting([*table.with_status(QUEUED), *table.with_status(SCHEDULED)], cause)

    def _end_waiting(self, numbers: Sequence[int], cause: Cause) -> None:
        table = self._table
        for number in numbers:
            if number in self.delayed:
                self.delayed.remove(number)
            elif table.status[number] == QUEUED:
                self._kinds[table.kinds[number]].queued -= 1
        self.states.end_together(numbers, KILLED, self._now, cause)

    def _end_if_stuck(self) -> StuckError | None:
        """The guarantee of progress: a run that can never move again ends and says so."""
        counts = self.states.counts
        if counts[RUNNING] or not (counts[QUEUED] or counts[SCHEDULED]):
            return None
        if self.is_paused or self.delayed or self.waiting_holds or self._ready.has_impossible:
            return None  # somebody or something outside will move it
        left = [*self._table.with_status(QUEUED), *self._table.with_status(SCHEDULED)]
        names = ", ".join(
            f'"{self._table.jobs[number].id}"' for number in islice(left, _NAMED_WHEN_STUCK)
        )
        message = (
            f"stuck, this is a bug: nothing runs and nothing can be started, but {len(left)} jobs "
            f"have not ended ({names}{', ...' if len(left) > _NAMED_WHEN_STUCK else ''}); "
            "please report it with the run's events.jsonl"
        )
        _log.error("%s", message)
        self._end_all_waiting(Cause(CauseKind.CANCELLED, message, {"by": "scheduler"}))
        return StuckError(message)

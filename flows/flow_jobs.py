"""The jobs of one flow run: futures in front, a run of the scheduler behind.

Three kinds of threads meet here.  The flow's own (and those of its plain tasks) submit and wait;
they may be struck by a signal's exception at any instruction, so they touch no lock that others
wait for.  The service thread alone opens the run, adds jobs to it and ends it.  The scheduler's
thread says through an observer how each job goes and completes the futures.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import Abort, Pause, TerminationSignal
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.states import Cancelled

from flows.flow_tasks import FlowTasks
from flows.futures import JobFuture
from flows.job_memory import JobMemory
from flows.job_waits import JobWaits, read_waits
from flows.latch import Latch
from flows.pending_jobs import PendingJobs, Submission
from flows.prefect_private import exception_of, supervisor_decides
from flows.service_thread import Reply, ServiceThread
from observers.base import Observer
from tasks.errors import HoldfastError, InputError, StateError
from tasks.events import JobChanged, JobEnd, KillRequested
from tasks.job_result import JobResult
from tasks.run_job import JobTask
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind, JobStatus, RunStatus

if TYPE_CHECKING:
    from pathlib import Path

    from flows.run_summary import RunSummary
    from flows.session import RunSession

_log = logging.getLogger("holdfast.task_runner")

_NAMED_IN_MESSAGE = 10
_PATIENCE_IN_INTERRUPTS = 3


class UnseenFailureError(HoldfastError):
    """Jobs or tasks of a flow did not pass, and nobody asked for their results."""

    exit_code = 1

    def __init__(self, failures: Sequence[str]) -> None:
        self.failures = tuple(failures)
        shown = list(self.failures[:_NAMED_IN_MESSAGE])
        if len(self.failures) > len(shown):
            shown.append(f"and {len(self.failures) - len(shown)} more")
        count = len(self.failures)
        subject = "a job or task" if count == 1 else f"{count} jobs or tasks"
        super().__init__(
            f"{subject} of the flow did not pass and nobody asked for the result "
            "(call result() or read the state of each future): " + "; ".join(shown)
        )

    def __reduce__(self) -> tuple[type[UnseenFailureError], tuple[tuple[str, ...]]]:
        return type(self), (self.failures,)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why jobs are to be killed, and who asked."""

    by: str
    reason: str
    grace_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One call of ``run_job``: the task with its options, and what it was given."""

    task: JobTask
    spec: object
    """A specification, or the future of a task that makes one."""
    wait_for: Any = None
    index: int | None = None
    """Its place among mapped jobs."""
    tags: tuple[str, ...] = ()
    """Tags of the context in which it was submitted."""


class FlowJobs:
    """What a task runner holds for one attempt of a flow run, from its first task on.

    ``open_session`` makes the run when the first job comes; a flow without jobs has no run.
    """

    def __init__(
        self,
        flow_run: FlowRun,
        open_session: Callable[[Sequence[Observer]], RunSession],
        *,
        memory: JobMemory | None = None,
        force_cancelled: Callable[[UUID, str], None],
    ) -> None:
        self._flow_run = flow_run
        self._open_session = open_session
        self._memory = memory
        self._force_cancelled = force_cancelled
        self._session: RunSession | None = None
        self._directory: Path | None = None
        self._futures: dict[str, JobFuture] = {}
        self._spared: dict[str, JobResult] = {}
        self._looked_at: set[str] = set()
        self._never_nodes: list[JobFuture] = []
        self._nameless = 0
        self._count_lock = threading.Lock()
        self._outstanding = 0
        self._idle_wakers: list[Callable[[], None]] = []
        self.tasks = FlowTasks(self._wake_if_idle)
        self._service = ServiceThread("holdfast-task-runner")
        self._callbacks: ServiceThread | None = None
        self._pending = PendingJobs(self._service.post, self._add_nodes, self._never_started)
        self._stopped: Stop | None = None
        self._cancelled = ""
        self._verdict: RunStatus | None = None
        self._replies: list[Reply[RunSummary | None]] = []
        self._over = False
        self._summary: RunSummary | None = None

    @property
    def flow_run_id(self) -> UUID:
        """The flow run that the jobs belong to."""
        return self._flow_run.id

    @property
    def summary(self) -> RunSummary | None:
        """What became of the run; ``None`` before its end, or if there was none."""
        return self._summary

    # -- submitting (any thread) -----------------------------------------------------------

    def submit(self, requests: Sequence[JobRequest]) -> list[JobFuture]:
        """Make nodes of the run's graph, all or none; returns their futures.

        Raises ``InputError`` for what is not valid, ``StateError`` when the flow run is over,
        and what starting a run raises.
        """
        waits: dict[int, JobWaits] = {}
        submissions = [self._submission(request, waits) for request in requests]
        self._service.call(lambda: self._accept(submissions))
        return [submission.future for submission in submissions]

    def _submission(self, request: JobRequest, waits: dict[int, JobWaits]) -> Submission:
        if id(request.wait_for) not in waits:
            waits[id(request.wait_for)] = self._own(read_waits(request.wait_for))
        is_future = isinstance(request.spec, PrefectFuture)

        def make_job(spec: object) -> JobRecord:
            return _with_tags(request.task.job(spec, request.index), request.tags)

        job = None if is_future else make_job(request.spec)
        return Submission(
            future=JobFuture(self, job),
            waits=waits[id(request.wait_for)],
            job=job,
            make_job=make_job,
            spec=request.spec if isinstance(request.spec, PrefectFuture) else None,
        )

    def _own(self, waits: JobWaits) -> JobWaits:
        """Only jobs of this very run can be needs; others are waited for from outside."""
        foreign = [future for future in waits.jobs if not future.belongs_to(self)]
        for future in foreign:
            del waits.jobs[future]
            waits.others[future] = False
        return waits

    # -- in the service thread -------------------------------------------------------------

    def _accept(self, submissions: Sequence[Submission]) -> None:
        if self._over or self._verdict is not None:
            raise StateError(
                f'flow run "{self._flow_run.name}" is over ({self._why_over()}): no job can be '
                "added any more"
            )
        self._check_ids(submissions)
        if self._session is None:
            self._session = self._open_session([_Completer(self)])
            self._directory = self._session.directory
        self._expect(len(submissions))
        for submission in submissions:
            if submission.job is not None:
                self._register(submission.future, submission.job)
            else:
                self._name_later(submission)
        free = self._pending.take(submissions)
        try:
            self._add(free)
        except BaseException:
            for submission in submissions:
                self._withdraw(submission)
            self._expect(-len(submissions))
            raise

    def _why_over(self) -> str:
        return self._cancelled or "its function has returned"

    def _check_ids(self, submissions: Sequence[Submission]) -> None:
        seen: set[str] = set()
        taken: list[str] = []
        for submission in submissions:
            if submission.job is None:
                continue
            if submission.job.id in seen or submission.job.id in self._futures:
                taken.append(submission.job.id)
            seen.add(submission.job.id)
        if taken:
            raise InputError([_taken(job_id) for job_id in dict.fromkeys(taken)])

    def _register(self, future: JobFuture, job: JobRecord) -> None:
        self._futures[job.id] = future

    def _name_later(self, submission: Submission) -> None:
        make_job = submission.make_job

        def make_named_job(spec: object) -> JobRecord:
            job = make_job(spec)
            if job.id in self._futures:
                raise InputError([_taken(job.id)])
            self._register(submission.future, job)
            submission.future.name(job)
            return job

        submission.make_job = make_named_job

    def _withdraw(self, submission: Submission) -> None:
        if submission.job is not None:
            self._futures.pop(submission.job.id, None)
        self._pending.forget(submission)

    def _add(self, submissions: Sequence[Submission]) -> None:
        if not submissions:
            return
        assert self._session is not None, "jobs without a session; this is a bug"
        nodes = [submission.node() for submission in submissions]
        spared = self._find_spared(nodes)
        self._session.add(nodes, passed=spared)
        for submission, node in zip(submissions, nodes, strict=True):
            submission.future.become_node(node)

    def _find_spared(self, nodes: Sequence[JobRecord]) -> list[str]:
        """Return the jobs that passed in an earlier attempt, and so did all that they need."""
        if self._memory is None:
            return []
        spared = []
        for node in nodes:
            result = self._memory.result_of(self.flow_run_id, node)
            if result is not None and all(need in self._spared for need in node.needs):
                self._spared[node.id] = replace(result, skipped=True)
                spared.append(node.id)
        return spared

    def _add_nodes(self, submissions: Sequence[Submission]) -> None:
        """Add what was held back; nobody is there any more to be told that it is not valid."""
        try:
            self._add(submissions)
        except InputError as error:
            if len(submissions) == 1:
                self._end_outside(submissions[0].future, CauseKind.LAUNCH_ERROR, str(error))
                return
            for submission in submissions:
                self._add_nodes([submission])

    def _never_started(self, submission: Submission, reason: str) -> None:
        kind = CauseKind.CANCELLED if self._stopped is not None else CauseKind.DEPENDENCY
        self._end_outside(submission.future, kind, reason, submission.job)

    def _end_outside(
        self, future: JobFuture, kind: CauseKind, reason: str, job: JobRecord | None = None
    ) -> None:
        """End a job that the scheduler will never see."""
        if job is None:
            self._nameless += 1
            job_id = f"run_job-{self._nameless}"
        else:
            job_id = job.id
        status = JobStatus.FAILED if kind is CauseKind.LAUNCH_ERROR else JobStatus.KILLED
        self._never_nodes.append(future)
        future.complete(
            JobResult(
                id=job_id,
                status=status,
                exit_code=None,
                signal=None,
                runtime_s=None,
                attempts=0,
                log=None,
                directory=None,
                cause=Cause(kind, reason),
            )
        )
        self._expect(-1)

    # -- in the scheduler's thread ---------------------------------------------------------

    def changed(self, events: Sequence[JobChanged]) -> None:
        """Jobs of the run moved: complete the futures of those that ended."""
        ended = 0
        for event in events:
            future = self._futures.get(event.job.id)
            if future is None:
                continue
            if event.after.is_end:
                future.complete(self._result(event))
                ended += 1
            else:
                future.move(event.after)
        if ended:
            self._expect(-ended)

    def _result(self, event: JobChanged) -> JobResult:
        job_id = event.job.id
        end = event.end if event.end is not None else JobEnd()
        if end.skipped and job_id in self._spared:
            return self._spared[job_id]
        directory = self._directory / "jobs" / job_id if self._directory and event.attempt else None
        return JobResult(
            id=job_id,
            status=event.after,
            exit_code=end.exit_code,
            signal=end.signal,
            runtime_s=end.runtime_s,
            attempts=event.attempt,
            log=directory / "log.txt" if directory is not None else None,
            directory=directory,
            cause=event.cause,
            skipped=end.skipped,
            cpu_s=end.cpu_s,
            max_rss_bytes=end.max_rss_bytes,
        )

    def kill_was_requested(self, event: KillRequested) -> None:
        """The run, or some of its jobs, is to be killed; by whom, the session knows."""
        session = self._session
        if event.jobs is None and session is not None and session.stopped_by:
            self._service.post(lambda: self._cancel_from_outside(event.by, event.reason))

    def deliver(self, future: JobFuture) -> None:
        """Call the future's callbacks in a thread that may be kept waiting by them."""
        with self._count_lock:
            if self._callbacks is None:
                self._callbacks = ServiceThread("holdfast-callbacks")
        self._callbacks.post(future.call_back)

    # -- counting --------------------------------------------------------------------------

    def _expect(self, more: int) -> None:
        with self._count_lock:
            self._outstanding += more
        if more < 0:
            self._wake_if_idle()

    def _is_idle(self) -> bool:
        return not self._outstanding and not self.tasks.running

    def _wake_if_idle(self) -> None:
        while self._is_idle() and self._idle_wakers:
            try:
                waker = self._idle_wakers.pop()
            except IndexError:
                return
            try:
                waker()
            except RuntimeError:
                pass  # its event loop is closed: nobody waits there any more

    def wait_until_idle(self) -> None:
        """Wait until every job and every plain task of the flow run has ended."""
        while not self._is_idle():
            latch = Latch()
            self._idle_wakers.append(latch.open)
            if not self._is_idle():
                latch.wait()

    async def wait_until_idle_async(self) -> None:
        """Do the same without keeping the event loop."""
        loop = asyncio.get_running_loop()
        while not self._is_idle():
            idle = asyncio.Event()
            self._idle_wakers.append(lambda wake=idle.set: loop.call_soon_threadsafe(wake))
            if not self._is_idle():
                await idle.wait()

    # -- failures that nobody has looked at ------------------------------------------------

    def looked_at(self, future: JobFuture) -> None:
        """Somebody has seen how this job ended, and with it the failures that it tells of."""
        todo = [future]
        while todo:
            ended = todo.pop().ended
            if ended is None or ended.passed or ended.id in self._looked_at:
                continue
            self._looked_at.add(ended.id)
            if ended.cause is not None and ended.cause.kind is CauseKind.DEPENDENCY:
                todo += self._needed_by(ended.id)

    def _needed_by(self, job_id: str) -> list[JobFuture]:
        future = self._futures.get(job_id)
        needs = future.job.needs if future is not None else ()
        return [self._futures[need] for need in needs if need in self._futures]

    def _raise_unseen(self) -> None:
        everything = dict.fromkeys([*self._futures.values(), *self._never_nodes])
        failures = [
            future.ended.in_words()
            for future in everything
            if future.ended is not None
            and not future.ended.passed
            and future.ended.id not in self._looked_at
        ]
        failures += self.tasks.unseen_failures()
        if failures:
            raise UnseenFailureError(failures)

    # -- the end: before the flow run enters a final state ---------------------------------

    def before(self, state: State[Any]) -> State[Any] | None:
        """Bring the run to its end before the flow run enters a final state.

        Completed waits for every job and task, and raises ``UnseenFailureError`` if one did not
        pass and nobody has looked.  Where the flow raised, its jobs are killed first.  Returns
        the state Cancelled where somebody cancelled the run, whatever the flow made of that.
        """
        if state.is_completed() and not self._cancelled:
            self.wait_until_idle()
        self._judge(state)
        self.end(_verdict(state), _stop_for(state))
        return self._instead_of(state)

    async def before_async(self, state: State[Any]) -> State[Any] | None:
        """Do what ``before`` does without keeping the event loop."""
        if state.is_completed() and not self._cancelled:
            await self.wait_until_idle_async()
        self._judge(state)
        # Shielded: whoever cancels the flow now must not leave processes behind.
        ending = asyncio.ensure_future(
            asyncio.to_thread(self.end, _verdict(state), _stop_for(state))
        )
        interrupted = None
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError as error:
                interrupted = error
        await ending
        if interrupted is not None:
            raise interrupted
        return self._instead_of(state)

    def _judge(self, state: State[Any]) -> None:
        if state.is_completed() and not self._cancelled:
            self._raise_unseen()

    def _instead_of(self, state: State[Any]) -> State[Any] | None:
        if not self._cancelled or state.is_cancelled():
            return None
        return Cancelled(message=self._cancelled)

    def leave(self, error: BaseException | None) -> None:
        """The flow run leaves its task runner; ``error`` is what it is torn out with.

        A signal, or the cancellation of the asyncio task, cancels the run: its jobs are killed,
        and when the last process is gone the flow run is forced into Cancelled.
        """
        if error is None or isinstance(error, GeneratorExit):
            self.end(_verdict(self._flow_run.state), None)
        elif isinstance(error, Pause | Abort):
            self.end(RunStatus.CANCELLED, Stop("Prefect", "the flow run is taken out of work"))
        elif (by := _signal_name(error)) is not None:
            self.cancel(Stop(by, f"stopped by {by}"))
        else:
            reason = f"the flow was left by {type(error).__name__}"
            self.end(RunStatus.CRASHED, Stop("flow", reason))

    def cancel(self, stop: Stop) -> None:
        """Kill every job; when the last process is gone, force the flow run into Cancelled.

        Returns then.  Where Prefect's supervisor will run the flow run again, its state stays.
        """
        if not supervisor_decides():
            self._cancelled = self._cancelled or f"cancelled: {stop.reason}"
        self.end(RunStatus.CANCELLED, stop)

    def end(self, verdict: RunStatus, stop: Stop | None) -> None:
        """End the run, with ``stop`` by killing what runs, and wait until nothing is left.

        The first exception that strikes the wait kills the jobs gracefully, the second at once,
        the third is let through; the first two are raised when all is done.
        """
        reply: Reply[RunSummary | None] = Reply()
        self._service.post(lambda: self._begin_end(verdict, stop, reply))
        struck: list[BaseException] = []
        while not reply.answered:
            try:
                reply.wait()
            except BaseException as error:
                if reply.answered:
                    break
                struck.append(error)
                if len(struck) == _PATIENCE_IN_INTERRUPTS:
                    raise
                self._service.post(_later(self._stop, _stop_for_strike(error, len(struck), stop)))
        reply.wait()
        if struck:
            raise struck[0]

    def _begin_end(
        self, verdict: RunStatus, stop: Stop | None, reply: Reply[RunSummary | None]
    ) -> None:
        if self._over:
            reply.give(self._summary)
            return
        self._replies.append(reply)
        if stop is not None:
            self._stop(stop)
        if self._verdict is not None:
            return  # it is being ended already
        self._verdict = verdict
        self._pending.give_up(stop.reason if stop is not None else "the flow is over")
        if self._session is None:
            self._ended(None, None)
            return
        self._session.finish()
        threading.Thread(target=self._close, name="holdfast-end", daemon=True).start()

    def _stop(self, stop: Stop) -> None:
        self._stopped = self._stopped or stop
        if self._session is not None:
            self._session.cancel(stop.by, stop.reason, grace_s=stop.grace_s)

    def _cancel_from_outside(self, by: str, reason: str) -> None:
        """Somebody cancelled the run by another way: from a terminal, or in Prefect."""
        if self._stopped is not None or self._over:
            return
        self._stopped = Stop(by, reason)
        self._cancelled = self._cancelled or f"cancelled: {reason}"
        self._begin_end(RunStatus.CANCELLED, None, Reply())

    def _close(self) -> None:
        """Wait for the run's end; in a thread of its own, so that a second stop gets through."""
        session, summary, failure = self._session, None, None
        assert session is not None, "an end without a session; this is a bug"
        try:
            session.verdict = RunStatus.CANCELLED if self._cancelled else self._verdict
            summary = session.wait()
        except BaseException as error:  # noqa: BLE001 - whoever waits for the end must hear it
            failure = error
        if self._cancelled:
            self._force()
        self._service.post(lambda: self._ended(summary, failure))

    def _force(self) -> None:
        try:
            self._force_cancelled(self.flow_run_id, self._cancelled)
        except Exception as error:
            _log.warning('flow run "%s" was not set Cancelled: %s', self._flow_run.name, error)

    def _ended(self, summary: RunSummary | None, failure: BaseException | None) -> None:
        self._over = True
        self._summary = summary
        self._remember()
        for reply in self._replies:
            if failure is None:
                reply.give(summary)
            else:
                reply.fail(failure)
        self._replies.clear()
        if self._callbacks is not None:
            self._callbacks.stop()

    def _remember(self) -> None:
        if self._memory is None:
            return
        if self._verdict is RunStatus.COMPLETED:
            self._memory.forget(self.flow_run_id)
            return
        self._memory.remember(
            self.flow_run_id,
            [
                (future.job, future.ended)
                for future in self._futures.values()
                if future.ended is not None and future.ended.passed
            ],
        )


class _Completer(Observer):
    """Hands what happens in the run to the futures."""

    essential = True

    def __init__(self, jobs: FlowJobs) -> None:
        self._jobs = jobs

    @property
    def name(self) -> str:
        """How messages call this observer."""
        return "task runner"

    def jobs_changed(self, events: Sequence[JobChanged]) -> None:
        """Complete the futures of jobs that ended."""
        self._jobs.changed(events)

    def kill_requested(self, event: KillRequested) -> None:
        """Note a cancel that came by another way."""
        self._jobs.kill_was_requested(event)


def _taken(job_id: str) -> str:
    return (
        f'job "{job_id}": another run_job of this flow run has the id; '
        "give each JobSpec an id of its own"
    )


def _with_tags(job: JobRecord, tags: tuple[str, ...]) -> JobRecord:
    if not tags or set(tags) <= set(job.tags):
        return job
    every = tuple(dict.fromkeys((*job.tags, *tags)))
    return JobRecord(job.id, job.command, job.needs, {**job.rest, "tags": every})


_VERDICTS = {
    "COMPLETED": RunStatus.COMPLETED,
    "CANCELLED": RunStatus.CANCELLED,
    "CRASHED": RunStatus.CRASHED,
}


def _verdict(state: State[Any] | None) -> RunStatus:
    """Return how a run ends whose flow run enters this state."""
    return _VERDICTS.get(state.type.value, RunStatus.FAILED) if state else RunStatus.CRASHED


def _stop_for(state: State[Any]) -> Stop | None:
    """Return why jobs that still run are killed before this state; ``None`` to wait for them.

    A flow that returns failed states has not raised: what it started may end.
    """
    error = exception_of(state)
    if state.name == "TimedOut":
        return Stop("flow", state.message or "the flow exceeded its timeout")
    if error is not None:
        return Stop("flow", f"the flow raised {type(error).__name__}")
    if state.is_cancelled() or state.is_crashed():
        return Stop("flow", f"the flow ended in state {state.name}")
    return None


def _signal_name(error: BaseException) -> str | None:
    """Return by what a flow is stopped; ``None`` for an exception that is no stop."""
    if isinstance(error, TerminationSignal):
        return signal.Signals(error.signal).name
    if isinstance(error, KeyboardInterrupt):
        return "SIGINT"
    return "cancellation" if isinstance(error, asyncio.CancelledError) else None


def _stop_for_strike(error: BaseException, strikes: int, stop: Stop | None) -> Stop:
    """Return what an exception that strikes during the end asks for."""
    by = _signal_name(error) or type(error).__name__
    again = strikes > 1 or stop is not None
    return Stop(by, f"stopped by {by}", grace_s=0.0 if again else None)


def _later(action: Callable[[Stop], None], stop: Stop) -> Callable[[], None]:
    return lambda: action(stop)

"""The jobs of one flow run: futures in front, a run of the scheduler behind.

Three kinds of threads meet here.  The flow's own (and those of its plain tasks) submit and wait;
they may be struck by a signal's exception at any instruction, so they touch no lock that others
wait for.  The service thread alone opens the run, adds jobs to it and ends it.  The scheduler's
thread says through an observer how each job goes and completes the futures.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.futures import PrefectFuture
from prefect.states import Cancelled

from flows.cancel_hooks import call_cancellation_hooks
from flows.flow_end import FlowEnd
from flows.flow_run_session import FlowRunSession
from flows.flow_tasks import FlowTasks
from flows.futures import JobFuture
from flows.held_jobs import HeldJobs, Submission
from flows.idle_watch import IdleWatch
from flows.job_memory import JobMemory
from flows.job_waits import JobWaits, read_waits
from flows.run_summary import RunSummary
from flows.service_thread import ServiceThread
from flows.stops import Stop, stop_before, stop_by, verdict_for, verdict_of
from flows.unseen_failures import SeenFailures, UnseenFailureError
from observers.base import Observer
from tasks.errors import InputError, StateError
from tasks.events import JobChanged, JobEnd, KillRequested
from tasks.job_result import JobResult
from tasks.run_job import JobTask
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind, JobStatus, RunStatus

_OWN_ERROR = "Holdfast"
"""Who ends a run that cannot go on, for example because its journal cannot be written."""


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

    The run is opened when the first job comes; a flow without jobs has none.  With a
    ``memory`` the jobs that passed in an earlier attempt are spared.
    """

    def __init__(
        self,
        flow: Flow[..., Any],
        flow_run: FlowRun,
        run: FlowRunSession,
        memory: JobMemory | None = None,
    ) -> None:
        self._flow = flow
        self._flow_run = flow_run
        self._run = run
        self._memory = memory
        self._futures: dict[str, JobFuture] = {}
        self._nameless: list[JobFuture] = []
        self._spared: dict[str, JobResult] = {}
        self._seen = SeenFailures(self._futures.get)
        self._idle = IdleWatch()
        self.tasks = FlowTasks(self._idle)
        self._service = ServiceThread("holdfast-task-runner")
        self._callbacks: ServiceThread | None = None
        self._opening_callbacks = threading.Lock()
        self._held = HeldJobs(self._service.post, self._release, self._kill_held, self._add_made)
        self._end = FlowEnd(run, self._service, self._held.give_up, self._remember)

    @property
    def flow_run_id(self) -> UUID:
        """The flow run that the jobs belong to."""
        return self._flow_run.id

    @property
    def summary(self) -> RunSummary | None:
        """What became of the run; ``None`` before its end, or if there was none."""
        return self._end.summary

    # -- submitting, in any thread ---------------------------------------------------------

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
        # Mapped jobs share one wait_for: it is read once.
        wait = waits.get(id(request.wait_for))
        if wait is None:
            wait = waits[id(request.wait_for)] = self._with_own_edges(read_waits(request.wait_for))
        spec = request.spec if isinstance(request.spec, PrefectFuture) else None

        def make_job(given: object) -> JobRecord:
            return _with_tags(request.task.job(given, request.index), request.tags)

        job = make_job(request.spec) if spec is None else None
        return Submission(
            future=JobFuture(self, job),
            waits=wait,
            job=job,
            make_job=make_job,
            spec=spec,
            blockers=len(wait.others) + bool(wait.failed),
        )

    def _with_own_edges(self, waits: JobWaits) -> JobWaits:
        """Only jobs that this run knows can be needs; others are waited for from outside."""
        for future in list(waits.jobs):
            if not (future.belongs_to(self) and future.has_job):
                del waits.jobs[future]
                waits.others[future] = False
        return waits

    # -- adding, in the service thread -----------------------------------------------------

    def _accept(self, submissions: Sequence[Submission]) -> None:
        if self._end.has_begun:
            why = self._end.cancelled or "its function has returned"
            raise StateError(
                f'flow run "{self._flow_run.name}" is over ({why}): no job can be added any more'
            )
        self._check_ids(submissions)
        if not self._run.is_open:
            self._run.open(_Completer(self))
        self._idle.expect(len(submissions))
        try:
            self._add([submission for submission in submissions if submission.job is not None])
        except BaseException:
            self._idle.expect(-len(submissions))
            raise
        self._held.watch(submissions)

    def _check_ids(self, submissions: Sequence[Submission]) -> None:
        seen: set[str] = set()
        taken: dict[str, None] = {}
        for submission in submissions:
            if submission.job is None:
                continue
            job_id = submission.job.id
            if job_id in seen or job_id in self._futures:
                taken[job_id] = None
            seen.add(job_id)
        if taken:
            raise InputError([_taken(job_id) for job_id in taken])

    def _add(self, submissions: Sequence[Submission]) -> None:
        """Add jobs to the run; raises ``InputError``, then none of them was added."""
        if not submissions:
            return
        nodes = [submission.node() for submission in submissions]
        spared = self._find_spared(nodes)
        held = {
            node.id
            for node, submission in zip(nodes, submissions, strict=True)
            if submission.blockers and node.id not in spared
        }
        for node, submission in zip(nodes, submissions, strict=True):
            submission.future.become_node(node)
            self._futures[node.id] = submission.future
        try:
            self._run.add(nodes, passed=spared, held=held)
        except BaseException:
            for node in nodes:
                del self._futures[node.id]
            raise

    def _find_spared(self, nodes: Sequence[JobRecord]) -> set[str]:
        """Return the jobs that passed in an earlier attempt, and so did all that they need."""
        spared: set[str] = set()
        if self._memory is None:
            return spared
        for node in nodes:
            result = self._memory.result_of(self.flow_run_id, node)
            if result is not None and all(need in self._spared for need in node.needs):
                self._spared[node.id] = replace(result, skipped=True)
                spared.add(node.id)
        return spared

    def _add_made(self, submission: Submission) -> None:
        self._check_ids([submission])
        self._add([submission])

    def _release(self, submission: Submission) -> None:
        assert submission.job is not None, "a release without a job; this is a bug"
        self._run.release(submission.job.id)

    def _kill_held(self, submission: Submission, reason: str) -> None:
        kind = CauseKind.CANCELLED if self._end.stop is not None else CauseKind.DEPENDENCY
        cause = Cause(kind, reason)
        if submission.job is not None:
            self._run.release(submission.job.id, cause)
        else:
            self._end_nameless(submission.future, cause)

    def _end_nameless(self, future: JobFuture, cause: Cause) -> None:
        """End what has no specification and never will."""
        self._nameless.append(future)
        future.complete(
            JobResult(
                id=f"run_job-{len(self._nameless)}",
                status=JobStatus.KILLED,
                exit_code=None,
                signal=None,
                runtime_s=None,
                attempts=0,
                log=None,
                directory=None,
                cause=cause,
            )
        )
        self._idle.expect(-1)

    # -- completing, in the scheduler's thread ---------------------------------------------

    def changed(self, events: Sequence[JobChanged]) -> None:
        """Jobs of the run moved: complete the futures of those that ended."""
        ended = 0
        directory = self._run.directory / "jobs"
        for event in events:
            future = self._futures.get(event.job.id)
            if future is None:
                continue
            if event.after.is_end:
                spared = self._spared.get(event.job.id) if event.end and event.end.skipped else None
                future.complete(spared if spared is not None else _result(event, directory))
                ended += 1
            else:
                future.move(event.after)
        if ended:
            self._idle.expect(-ended)

    def kill_was_requested(self, event: KillRequested) -> None:
        """Jobs are to be killed; a cancel of the whole run is one of the flow run too."""
        by = self._run.stopped_by
        if event.jobs is None and by and by != _OWN_ERROR:
            stop = Stop(event.by, event.reason, is_cancel=True)
            self._service.post(lambda: self._end.cancel_from_outside(stop))

    def deliver(self, future: JobFuture) -> None:
        """Call the future's callbacks in a thread that may be kept waiting by them."""
        with self._opening_callbacks:
            if self._callbacks is None:
                self._callbacks = ServiceThread("holdfast-callbacks")
        self._callbacks.post(future.call_back)

    def looked_at(self, future: JobFuture) -> None:
        """Somebody has seen how this job ended."""
        self._seen.add(future)

    # -- the end ---------------------------------------------------------------------------

    def before(self, state: State[Any]) -> State[Any] | None:
        """Bring the run to its end before the flow run enters a final state.

        Every job and task is waited for, unless the flow raised: then its jobs are killed.
        Raises ``UnseenFailureError`` before Completed, if one of them did not pass and nobody
        has looked.  Returns the state Cancelled where somebody cancelled the run, whatever the
        flow made of that.
        """
        stop = self._stop_before(state)
        if stop is None and not self._end.has_begun:
            self._idle.wait()
        self._judge(state)
        self._end.wait(verdict_of(state), stop)
        return self._instead_of(state)

    async def before_async(self, state: State[Any]) -> State[Any] | None:
        """Do what ``before`` does without keeping the event loop."""
        stop = self._stop_before(state)
        if stop is None and not self._end.has_begun:
            await self._idle.wait_async()
        self._judge(state)
        await _shielded(asyncio.to_thread(self._end.wait, verdict_of(state), stop))
        return await asyncio.to_thread(self._instead_of, state)

    def _stop_before(self, state: State[Any]) -> Stop | None:
        """Return why jobs are to be killed; ``None`` too where none is left."""
        return None if self._idle.is_idle else stop_before(state)

    def _judge(self, state: State[Any]) -> None:
        if not state.is_completed() or self._end.cancelled:
            return
        failures = self._seen.missing([*self._futures.values(), *self._nameless])
        failures += self.tasks.unseen_failures()
        if failures:
            raise UnseenFailureError(failures)

    def _instead_of(self, state: State[Any]) -> State[Any] | None:
        if not self._end.cancelled or state.is_cancelled():
            return None
        cancelled: State[Any] = Cancelled(message=self._end.cancelled)
        call_cancellation_hooks(self._flow, self._flow_run, cancelled)
        return cancelled

    def leave(self, error: BaseException | None) -> None:
        """The flow run leaves its task runner; ``error`` is what it is torn out with.

        A signal, or the cancellation of the asyncio task, cancels the run: its jobs are killed,
        and when the last process is gone the flow run is forced into Cancelled.
        """
        if error is None or isinstance(error, GeneratorExit):
            # Over already, unless Prefect no longer asks before it ends a flow run.
            self._end.wait(verdict_of(self._flow_run.state), None)
        elif stop_by(error).is_cancel:
            self.cancel(stop_by(error))
        else:
            self._end.wait(verdict_for(error), stop_by(error))

    def cancel(self, stop: Stop) -> None:
        """Kill every job and force the flow run into Cancelled; returns then.

        A flow run that has its final state, and with it no process any more, keeps it.
        """
        state = self._flow_run.state
        if not (self._end.is_over and state is not None and state.is_final()):
            self._end.cancel(stop)

    def dismiss(self) -> None:
        """Let go of the threads; the run is over.  Idempotent."""
        self._service.stop()
        if self._callbacks is not None:
            self._callbacks.stop()

    def _remember(self, verdict: RunStatus) -> None:
        if self._memory is None:
            return
        if verdict is RunStatus.COMPLETED:
            self._memory.forget(self.flow_run_id)
            return
        futures = self._futures.values()
        ended = [(future.job, future.ended) for future in futures if future.ended is not None]
        passed = [(job, result) for job, result in ended if result.passed]
        self._memory.remember(self.flow_run_id, passed)


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


def _result(event: JobChanged, jobs_directory: Path) -> JobResult:
    end = event.end if event.end is not None else JobEnd()
    directory = jobs_directory / event.job.id if event.attempt else None
    return JobResult(
        id=event.job.id,
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


def _taken(job_id: str) -> str:
    return (
        f'job "{job_id}": another run_job of this flow run has the id; '
        "give each JobSpec an id of its own"
    )


def _with_tags(job: JobRecord, tags: tuple[str, ...]) -> JobRecord:
    if set(tags) <= set(job.tags):
        return job
    every = tuple(dict.fromkeys((*job.tags, *tags)))
    return JobRecord(job.id, job.command, job.needs, {**job.rest, "tags": every})


async def _shielded(work: Any) -> None:
    """Wait for the work to be done, whoever cancels this task meanwhile; then be cancelled."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled

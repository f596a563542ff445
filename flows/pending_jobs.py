"""Jobs that cannot be nodes of the graph yet: they wait for tasks that are no jobs.

Everything here happens in one thread, the flow run's service thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture

from flows.futures import JobFuture
from flows.job_waits import JobWaits, in_words, may_stand
from tasks.errors import HoldfastError
from tasks.spec import JobRecord


@dataclass(slots=True, eq=False)
class Submission:
    """One ``run_job`` on its way into the graph."""

    future: JobFuture
    waits: JobWaits
    job: JobRecord | None
    """``None`` while another task still makes the specification."""
    make_job: Callable[[object], JobRecord]
    """Makes the job of what that task returns."""
    spec: PrefectFuture[Any] | None = None
    blockers: int = 0
    dependents: list[Submission] = field(default_factory=list)
    """Submissions that wait for this one to become a node, so that they can need it."""

    @property
    def needed_jobs(self) -> Iterable[JobFuture]:
        """The jobs that become this one's needs."""
        return self.waits.jobs

    def node(self) -> JobRecord:
        """Return the job with an edge to each job that it waits for."""
        assert self.job is not None, "a node without a job; this is a bug"
        edges = [future.job.id for future in self.waits.jobs]
        if not edges:
            return self.job
        needs = tuple(dict.fromkeys((*self.job.needs, *edges)))
        return JobRecord(self.job.id, self.job.command, needs, self.job.rest)


class PendingJobs:
    """Holds submissions until what blocks them has ended.

    ``ready`` receives those that can become nodes, ``dead`` those that never will, each with the
    reason.  ``post`` brings what a future's callback says into the service thread.
    """

    def __init__(
        self,
        post: Callable[[Callable[[], object]], None],
        ready: Callable[[Sequence[Submission]], None],
        dead: Callable[[Submission, str], None],
    ) -> None:
        self._post = post
        self._ready = ready
        self._dead = dead
        self._pending: dict[JobFuture, Submission] = {}
        self._by_id: dict[str, Submission] = {}

    def take(self, submissions: Sequence[Submission]) -> list[Submission]:
        """Keep what must wait or is dead already; return, in order, what can be a node now.

        A submission whose needed job is among those that are returned can be one too.
        """
        free: list[Submission] = []
        waiters: dict[PrefectFuture[Any], list[tuple[Submission, bool]]] = {}
        for submission in submissions:
            reason = submission.waits.failed or _lost(submission.needed_jobs, self._pending)
            if reason:
                self._dead(submission, reason)
                continue
            self._note_blockers(submission, waiters)
            if submission.blockers:
                self._keep(submission)
            else:
                free.append(submission)
        for future, blocked in waiters.items():
            self._watch(future, blocked)
        return free

    def give_up(self, reason: str) -> None:
        """Nothing that waits here will become a node any more."""
        for submission in list(self._pending.values()):
            self._kill(submission, reason)

    def _note_blockers(
        self,
        submission: Submission,
        waiters: dict[PrefectFuture[Any], list[tuple[Submission, bool]]],
    ) -> None:
        if submission.spec is not None:
            submission.blockers += 1
            waiters.setdefault(submission.spec, []).append((submission, False))
        for future, may_fail in submission.waits.others.items():
            submission.blockers += 1
            waiters.setdefault(future, []).append((submission, may_fail))
        self._note_pending_needs(submission)

    def _note_pending_needs(self, submission: Submission) -> None:
        """Wait for each job that is needed, by future or by name, and is pending itself."""
        names = submission.job.needs if submission.job is not None else ()
        needed = [self._by_id.get(name) for name in names]
        needed += [self._pending.get(future) for future in submission.needed_jobs]
        for other in dict.fromkeys(needed):
            if other is None or other is submission:
                continue  # a node already, or the scheduler will say that it needs itself
            if submission not in other.dependents:
                submission.blockers += 1
                other.dependents.append(submission)

    def _keep(self, submission: Submission) -> None:
        self._pending[submission.future] = submission
        if submission.job is not None:
            self._by_id[submission.job.id] = submission

    def _drop(self, submission: Submission) -> bool:
        if submission.job is not None:
            self._by_id.pop(submission.job.id, None)
        return self._pending.pop(submission.future, None) is not None

    def _watch(
        self, future: PrefectFuture[Any], blocked: list[tuple[Submission, bool]]
    ) -> None:
        def ended(_: PrefectFuture[Any]) -> None:
            self._post(lambda: self._unblock(future, blocked))

        future.add_done_callback(ended)

    def _unblock(
        self, future: PrefectFuture[Any], blocked: list[tuple[Submission, bool]]
    ) -> None:
        state = _state_of(future, looking=any(may_fail for _, may_fail in blocked))
        freed: list[Submission] = []
        for submission, may_fail in blocked:
            if submission.future not in self._pending:
                continue  # something else has killed it
            if isinstance(state, str) or not may_stand(state, may_fail=may_fail):
                self._kill(submission, state if isinstance(state, str) else in_words(state))
                continue
            if future is submission.spec and not self._name(submission, future):
                continue
            freed += self._lift(submission)
        if freed:
            self._ready(freed)

    def _name(self, submission: Submission, future: PrefectFuture[Any]) -> bool:
        """Make the job of what the task returned; returns whether there is one."""
        try:
            submission.job = submission.make_job(future.result())
        except HoldfastError as error:
            self._kill(submission, str(error))
            return False
        self._by_id[submission.job.id] = submission
        self._note_pending_needs(submission)
        return True

    def _lift(self, submission: Submission) -> list[Submission]:
        """Take one blocker away; returns what is free by that, dependents after what they need."""
        if submission.future not in self._pending:
            return []  # something else has killed it
        submission.blockers -= 1
        if submission.blockers:
            return []
        self._drop(submission)
        freed = [submission]
        for dependent in submission.dependents:
            freed += self._lift(dependent)
        return freed

    def _kill(self, submission: Submission, reason: str) -> None:
        if not self._drop(submission):
            return
        self._dead(submission, reason)
        for dependent in submission.dependents:
            self._kill(dependent, f"a job that it waits for was never started: {reason}")


def _state_of(future: PrefectFuture[Any], *, looking: bool) -> State[Any] | str:
    """Return the state of an ended task, or in words why there is none.

    A job's failure counts as looked at only where somebody said that it may fail.
    """
    if isinstance(future, JobFuture) and not looking:
        final = future.final_state()
        assert final is not None, "a callback before the end; this is a bug"
        return final
    try:
        future.wait()
        return future.state
    except Exception as error:  # a task that was given up before it ran
        return f"a task that it waits for was never run: {type(error).__name__}"


def _lost(needed: Iterable[JobFuture], pending: dict[JobFuture, Submission]) -> str:
    """Return, in words, a needed job that ended without ever being a node."""
    for future in needed:
        if future.ended is not None and not future.is_node and future not in pending:
            return f"a job that it waits for was never started: {future.ended.in_words()}"
    return ""

"""Jobs that wait for tasks that are no jobs, or for the task that makes their specification.

Everything here happens in one thread, the flow run's service thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    """How many tasks outside of the graph it still waits for."""
    is_settled: bool = False
    """Whether nothing outside of the graph can hold it any more, or kill it."""

    def node(self) -> JobRecord:
        """Return the job with an edge to each job that it waits for."""
        assert self.job is not None, "a node without a job; this is a bug"
        edges = [future.job.id for future in self.waits.jobs]
        if not edges:
            return self.job
        needs = tuple(dict.fromkeys((*self.job.needs, *edges)))
        return JobRecord(self.job.id, self.job.command, needs, self.job.rest)


class HeldJobs:
    """Watches what holds submissions back.

    ``released`` gets each submission that nothing holds any more, ``killed`` each that never
    can run, with the reason in words, ``made`` each whose job was made by a task.  ``post``
    brings what a future's callback says into the service thread.
    """

    def __init__(
        self,
        post: Callable[[Callable[[], object]], None],
        released: Callable[[Submission], None],
        killed: Callable[[Submission, str], None],
        made: Callable[[Submission], None],
    ) -> None:
        self._post = post
        self._released = released
        self._killed = killed
        self._made = made
        self._unmade: dict[Submission, None] = {}

    def watch(self, submissions: Sequence[Submission]) -> None:
        """Release or kill these, one by one, when what they wait for has ended."""
        watched: dict[PrefectFuture[Any], list[Submission]] = {}
        for submission in submissions:
            if submission.waits.failed:
                self._kill(submission, submission.waits.failed)
                continue
            for future in submission.waits.others:
                watched.setdefault(future, []).append(submission)
            if submission.spec is not None:
                self._unmade[submission] = None
                watched.setdefault(submission.spec, []).append(submission)
        for future, held in watched.items():
            self._call_when_ended(future, held)

    def give_up(self, reason: str) -> None:
        """Kill what is no job yet: no task makes its specification any more."""
        for submission in list(self._unmade):
            self._kill(submission, reason)

    def _call_when_ended(self, future: PrefectFuture[Any], held: list[Submission]) -> None:
        future.add_done_callback(lambda _: self._post(lambda: self._has_ended(future, held)))

    def _has_ended(self, future: PrefectFuture[Any], held: list[Submission]) -> None:
        allowed = [submission.waits.others.get(future, False) for submission in held]
        state = _state_of(future, looking=any(allowed))
        for submission, may_fail in zip(held, allowed, strict=True):
            if submission.is_settled:
                continue
            if isinstance(state, str):
                self._kill(submission, state)
            elif not may_stand(state, may_fail=may_fail):
                self._kill(submission, in_words(state))
            else:
                self._lift(submission, future)

    def _lift(self, submission: Submission, future: PrefectFuture[Any]) -> None:
        if future in submission.waits.others:
            submission.blockers -= 1
        if future is submission.spec:
            self._make(submission, future)
        elif not submission.blockers and submission.job is not None:
            submission.is_settled = True
            self._released(submission)

    def _make(self, submission: Submission, future: PrefectFuture[Any]) -> None:
        try:
            submission.job = submission.make_job(future.result())
            self._made(submission)
        except HoldfastError as error:
            submission.job = None
            self._kill(submission, str(error))
            return
        self._unmade.pop(submission, None)
        submission.is_settled = not submission.blockers

    def _kill(self, submission: Submission, reason: str) -> None:
        submission.is_settled = True
        self._unmade.pop(submission, None)
        self._killed(submission, reason)


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
    except Exception as error:  # noqa: BLE001 - a task that was given up before it ran
        return f"a task that it waits for was never run: {type(error).__name__}"
    return future.state

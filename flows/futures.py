"""The Prefect future of a job: what ``run_job.submit`` returns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from prefect.client.schemas.objects import State, StateDetails, StateType
from prefect.futures import PrefectFuture

from flows.latch import Latch
from flows.prefect_private import (
    FutureWithFinalState,
    asks_for_a_task_that_will_not_run,
    raise_if_suspended,
)
from tasks.job_result import JobFailedError, JobResult
from tasks.prefect_ids import task_run_id
from tasks.prefect_states import PrefectState, prefect_state
from tasks.status import JobStatus

if TYPE_CHECKING:
    from tasks.spec import JobRecord

_log = logging.getLogger("holdfast.task_runner")

Callback = Callable[[PrefectFuture[JobResult]], None]


class FutureOwner(Protocol):
    """What a future needs of the flow run that it belongs to."""

    @property
    def flow_run_id(self) -> UUID:
        """The flow run whose task run the job is."""

    def deliver(self, future: JobFuture) -> None:
        """Have the future's callbacks called soon, in a thread that may be kept waiting."""

    def looked_at(self, future: JobFuture) -> None:
        """Somebody has seen that the job did not pass."""


class JobFuture(FutureWithFinalState[JobResult]):
    """A job of a flow run, now or when it has ended.

    Its states are those of the job's task run in Prefect.  ``wait`` and ``result`` may be
    interrupted at any moment without harm; nothing but ``JobFuture`` methods is thread-safe to
    call from callbacks, which run in a thread of the task runner.
    """

    def __init__(self, owner: FutureOwner, job: JobRecord | None) -> None:
        super().__init__()
        self._owner = owner
        self._job = job
        self._status = JobStatus.SCHEDULED
        self._ended: JobResult | None = None
        self._state: State[JobResult] | None = None
        # Filled by whoever waits and emptied by whoever completes: each list operation is one
        # step of the interpreter, so no lock can be left behind.
        self._wakers: list[Callable[[], None]] = []
        self._callbacks: list[Callback] = []

    # -- what Prefect asks of a future -----------------------------------------------------

    @property
    def has_job(self) -> bool:
        """Whether the job is known; not while another task makes its specification."""
        return self._job is not None

    @property
    def job(self) -> JobRecord:
        """The job; waits where its specification is still being made by another task."""
        while self._job is None and self._ended is None:
            self._wait_for_news(None)
        if self._job is None:
            assert self._ended is not None
            from tasks.spec import JobRecord

            return JobRecord(self._ended.id, "false")
        return self._job

    @property
    def task_run_id(self) -> UUID:
        """The id of the job's task run; waits as ``job`` does."""
        return task_run_id(self._owner.flow_run_id, self.job.id)

    @property
    def state(self) -> State[JobResult]:
        """The job's state in Prefect's words; once it has ended, that counts as looking at it."""
        final = self.final_state()
        if final is None:
            return self._new_state(prefect_state(self._status), None, None)
        if not asks_for_a_task_that_will_not_run():
            self._owner.looked_at(self)
        return final

    def final_state(self) -> State[JobResult] | None:
        """Return the state of the ended job; ``None`` before its end."""
        ended = self._ended
        if ended is not None and self._state is None:
            kind = ended.cause.kind if ended.cause is not None else None
            words = prefect_state(ended.status, kind, skipped=ended.skipped)
            data = ended if ended.passed else JobFailedError(ended)
            self._state = self._new_state(words, ended.in_words(), data)
        return self._state

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the job's end, at most ``timeout`` seconds; then return all the same."""
        if self._ended is None:
            self._wait_for_news(timeout, end_only=True)
        raise_if_suspended()

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> JobResult:
        """Wait for the job's end and return its result.

        Raises ``JobFailedError`` for a job that did not pass (returns it with
        ``raise_on_failure=False``) and ``TimeoutError`` when ``timeout`` seconds are over.
        """
        self.wait(timeout)
        return self._result(timeout, raise_on_failure)

    def add_done_callback(self, fn: Callback) -> None:
        """Have ``fn`` called with this future when the job has ended; at once if it has."""
        self._callbacks.append(fn)
        if self._ended is not None:
            self.call_back()

    # -- for async flows -------------------------------------------------------------------

    async def wait_async(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - Prefect's
        """Wait as ``wait`` does, without keeping the event loop."""
        if self._ended is None:
            await self._wait_in_loop(timeout)
        raise_if_suspended()

    async def result_async(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - Prefect's interface
        raise_on_failure: bool = True,
    ) -> JobResult:
        """Return what ``result`` does, without keeping the event loop."""
        await self.wait_async(timeout)
        return self._result(timeout, raise_on_failure)

    # -- for the flow run's jobs -----------------------------------------------------------

    @property
    def ended(self) -> JobResult | None:
        """How the job ended; ``None`` before.  Nobody has looked at it by this."""
        return self._ended

    def belongs_to(self, owner: FutureOwner) -> bool:
        """Whether the job is one of this owner's."""
        return self._owner is owner

    def become_node(self, job: JobRecord) -> None:
        """The scheduler knows the job from now on, with the edges that it got."""
        self._job = job

    def name(self, job: JobRecord) -> None:
        """The job's specification is made: from now on it has an id."""
        self._job = job
        self._wake()

    def move(self, status: JobStatus) -> None:
        """The job came into a state that is no end."""
        self._status = status

    def complete(self, ended: JobResult) -> None:
        """The job has ended: wake who waits and have the callbacks called.  Never blocks."""
        self._status = ended.status
        self._ended = ended
        self._wake()
        if self._callbacks:
            self._owner.deliver(self)

    def call_back(self) -> None:
        """Call each callback that has not been called yet; what one raises is logged."""
        while self._callbacks:
            try:
                fn = self._callbacks.pop(0)
            except IndexError:
                return  # another thread took the last one
            try:
                fn(self)
            except Exception:  # noqa: BLE001 - it is somebody else's
                _log.exception('a callback of job "%s" failed', self.job.id)

    # -- within ----------------------------------------------------------------------------

    def _result(self, timeout: float | None, raise_on_failure: bool) -> JobResult:
        ended = self._ended
        if ended is None:
            name = f'job "{self._job.id}"' if self._job is not None else "a job without an id yet"
            raise TimeoutError(f"{name} did not end within {timeout} s")
        if ended.passed:
            return ended
        self._owner.looked_at(self)
        error = JobFailedError(ended)
        if raise_on_failure:
            raise error
        return error  # type: ignore[return-value]  # as Prefect's own futures do

    def _new_state(self, words: PrefectState, message: str | None, data: Any) -> State[JobResult]:
        details = StateDetails(flow_run_id=self._owner.flow_run_id, task_run_id=self.task_run_id)
        return State(
            type=StateType(words.type),
            name=words.name,
            message=message,
            data=data,
            state_details=details,
        )

    def _wake(self) -> None:
        while self._wakers:
            try:
                waker = self._wakers.pop()
            except IndexError:
                return
            try:
                waker()
            except RuntimeError:
                pass  # its event loop is closed: nobody waits there any more

    def _wait_for_news(self, timeout_s: float | None, *, end_only: bool = False) -> None:
        """Wait until the job has an id or an end, or until it has an end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            latch = Latch()
            waker = latch.open
            self._wakers.append(waker)
            if self._ended is not None or (self._job is not None and not end_only):
                return
            left = None if deadline is None else deadline - time.monotonic()
            if not latch.wait(left):
                with contextlib.suppress(ValueError):
                    self._wakers.remove(waker)
                return
            if self._ended is not None or not end_only:
                return

    async def _wait_in_loop(self, timeout_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                while self._ended is None:
                    news = asyncio.Event()
                    self._wakers.append(partial(_wake_in, loop, news))
                    if self._ended is None:
                        await news.wait()
        except TimeoutError:
            return


def _wake_in(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    loop.call_soon_threadsafe(news.set)

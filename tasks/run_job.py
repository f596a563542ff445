"""The Prefect task that runs one job: ``run_job.submit(JobSpec(...))`` in a flow of one's own.

It works under the task runners of this project alone: they make each submission a node of one
job graph, and no job passes through Prefect's engine for tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, NoReturn, Protocol, cast, runtime_checkable

from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.tasks import Task
from prefect.utilities.annotations import NotSet
from prefect.utilities.visualization import get_task_viz_tracker

from tasks.errors import InputError, StateError
from tasks.job_options import REFUSED, overrides_of, refusal, with_overrides
from tasks.job_result import JobResult
from tasks.spec import JobRecord, JobSpec

NO_RUNNER = "run_job needs a Holdfast task runner: @flow(task_runner=LocalTaskRunner())"


class NoJobRunnerError(StateError):
    """``run_job`` was used outside a flow, or in a flow under another task runner."""

    exit_code = 2


class JobHandle(Protocol):
    """What a runner hands out for a job: a Prefect future."""

    @property
    def state(self) -> Any:
        """The Prefect state of the job."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the job's end, at most ``timeout`` seconds."""

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> JobResult:
        """Wait for the job's end; return its result or raise why there is none."""


@runtime_checkable
class JobRunner(Protocol):
    """What ``run_job`` asks of the task runner of the flow that it is used in."""

    def submit_job(self, job: JobSpec | JobRecord, *, wait_for: Any = None) -> JobHandle:
        """Make the job a node of the flow run's graph; returns at once."""


def active_job_runner() -> JobRunner:
    """Return the runner of the flow that calls; raises ``NoJobRunnerError`` without one."""
    context = FlowRunContext.get()
    runner: object = context.task_runner if context is not None else None
    if not isinstance(runner, JobRunner):
        raise NoJobRunnerError(NO_RUNNER)
    return runner


class JobTask(Task[..., JobResult]):
    """The task behind ``run_job``: what its options mean for a job, and which have no meaning.

    ``submit`` returns a future at once; ``map`` makes one job of each specification; a direct
    call submits and waits.  ``with_options`` takes ``name`` (the job's id; of mapped jobs
    ``<name>-0``, ``<name>-1``, ...), ``tags``, ``retries``, ``retry_delay_seconds``,
    ``timeout_seconds`` and ``description``, which win over what the specification says.
    """

    overrides: Mapping[str, Any]

    def job(self, spec: object, index: int | None = None) -> JobRecord:
        """Return the job that this task makes of a specification.

        ``index`` is its place among mapped ones.  Raises ``InputError`` if it is none.
        """
        if isinstance(spec, JobSpec):
            record = spec.record()
        elif isinstance(spec, JobRecord):
            record = spec
        else:
            raise InputError(
                [
                    f"run_job takes a JobSpec, found {type(spec).__name__}; "
                    'write run_job.submit(JobSpec(id="build", command=["make"]))'
                ]
            )
        overrides = self.overrides
        if index is not None and "id" in overrides:
            overrides = {**overrides, "id": f"{overrides['id']}-{index}"}
        return with_overrides(record, overrides)

    def __call__(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> Any:
        """Run the job and wait: returns its ``JobResult`` or raises ``JobFailedError``.

        With ``return_state=True`` returns the Prefect state instead and does not raise.
        """
        if get_task_viz_tracker():
            return super().__call__(*args, **kwargs)
        future = cast(JobHandle, self.submit(*args, wait_for=wait_for, **kwargs))
        if return_state:
            future.wait()
            return future.state
        return future.result()

    def submit(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> Any:
        """Make the job a node of the flow run's graph and return its future at once.

        ``wait_for`` takes futures of jobs, which become edges, and of other tasks.  Raises
        ``NoJobRunnerError`` where there is no runner for jobs, ``InputError`` for a job that is
        not valid or whose id is taken.
        """
        active_job_runner()
        return super().submit(*args, return_state=return_state, wait_for=wait_for, **kwargs)

    def map(
        self,
        *args: Any,
        return_state: bool = False,
        wait_for: Any = None,
        deferred: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Make one job of each specification and return their futures at once.

        The jobs are added together: if one of them is not valid, none is.
        """
        if deferred:
            raise refusal("deferred")
        active_job_runner()
        return super().map(*args, return_state=return_state, wait_for=wait_for, **kwargs)

    def with_options(self, **options: Any) -> JobTask:
        """Return this task with options that override fields of the jobs it is given.

        Raises ``InputError`` for an option that a job cannot honour, or a value it cannot have.
        """
        given = {name: value for name, value in options.items() if not _says_nothing(value)}
        for name in given:
            if name in REFUSED:
                raise refusal(name)
        unknown = given.keys() - {*_TASK_OPTIONS, "description"}
        if unknown:
            raise TypeError(f"with_options() got an unexpected keyword argument {min(unknown)!r}")
        other = copy(self)
        other.overrides = {**self.overrides, **overrides_of(given)}
        for name in given:
            value = set(given[name]) if name == "tags" else given[name]
            setattr(other, name, value)
        return other

    def on_completion(self, fn: Any) -> NoReturn:
        """Refused: see ``tasks.job_options``."""
        raise refusal("on_completion")

    def on_failure(self, fn: Any) -> NoReturn:
        """Refused: see ``tasks.job_options``."""
        raise refusal("on_failure")

    def on_running(self, fn: Any) -> NoReturn:
        """Refused: see ``tasks.job_options``."""
        raise refusal("on_running")

    def on_commit(self, fn: Any) -> NoReturn:
        """Refused: see ``tasks.job_options``."""
        raise refusal("on_commit")

    def on_rollback(self, fn: Any) -> NoReturn:
        """Refused: see ``tasks.job_options``."""
        raise refusal("on_rollback")

    def apply_async(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: see ``tasks.job_options``."""
        raise refusal("apply_async")

    def delay(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: see ``tasks.job_options``."""
        raise refusal("delay")

    def serve(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: see ``tasks.job_options``."""
        raise refusal("serve")

    async def aserve(self) -> NoReturn:
        """Refused: see ``tasks.job_options``."""
        raise refusal("aserve")


_TASK_OPTIONS = frozenset({"name", "tags", "retries", "retry_delay_seconds", "timeout_seconds"})


def _says_nothing(value: Any) -> bool:
    """Whether an option is not given, or asks for what is so anyhow."""
    return value is None or value is NotSet or value is False or value is NO_CACHE


def _run_job(spec: JobSpec) -> JobResult:
    """Run one job as a process of its own and return how it ended."""
    # Reached only through Prefect's engine for tasks, as a part of a task of somebody else's.
    return active_job_runner().submit_job(spec).result()


run_job = JobTask(_run_job, name="run_job", cache_policy=NO_CACHE, persist_result=False)
"""Runs one job under a task runner of this project; see ``JobTask``."""
run_job.overrides = {}

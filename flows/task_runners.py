"""Prefect task runners under which ``run_job`` runs jobs as real processes.

::

    from flows import LocalTaskRunner, run_job
    from prefect import flow
    from tasks.spec import JobSpec

    @flow(task_runner=LocalTaskRunner(max_parallel=8, resources={"licence": 2}))
    def nightly():
        build = run_job.submit(JobSpec(id="build", command=["make"]))
        tests = run_job.map([...], wait_for=[build])
        return tests
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from prefect.context import FlowRunContext, TagsContext
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task
from prefect.utilities.annotations import BaseAnnotation

from backends.base import Backend
from backends.fake import FakeBackend
from backends.fake_policy import FakePolicy
from flows.flow_jobs import FlowJobs, JobRequest
from flows.flow_run_session import FlowRunSession
from flows.futures import JobFuture
from flows.job_memory import JobMemory
from flows.prefect_private import guard_final_states
from flows.run_names import checked_run_name
from flows.run_settings import (
    DEFAULT_ADOPT_WITHIN_S,
    DEFAULT_REPORT_LIMIT,
    DEFAULT_REPORT_WAIT_S,
    OnCrash,
)
from flows.stops import Stop
from observers.base import Observer
from tasks.run_context import RunContext
from tasks.run_job import NO_RUNNER, JobTask, NoJobRunnerError, run_job
from tasks.spec import JobRecord, JobSpec

AnyFuture = PrefectFuture[Any]
ObserverOrMaker = Observer | Callable[[Path], Observer]
Resources = Mapping[str, int | Sequence[str | int]]


class JobTaskRunner(TaskRunner[AnyFuture]):
    """The base of the task runners of this project: jobs go to a run, other tasks to threads.

    A subclass names its ``backend``.  The settings are those of ``python -m flows.run``:

    - ``max_parallel``: jobs at a time (default: one for each processor); ``resources``: counts,
      or the ids to hand out, by name.
    - ``runs``: the folder of run directories (default ``$HOLDFAST_RUNS``, else ``runs``);
      ``run_name``: what the run is called (default: the flow's name); ``cwd``: where jobs run
      that do not say.
    - ``observers``: observers of the run, or callables that make one for each run, given its
      directory; with ``replace_observers`` they replace the built-in ones, the report to Prefect
      included.  An observer that is given as it is sees the events of every run of the flow.
    - ``fail_fast``, ``grace_s``, ``on_crash``, ``adopt_within_s``, ``wait``, ``report_wait_s``,
      ``report_limit``: as on the command line; times in seconds.
    - ``max_threads``: plain tasks at a time (default: no limit).

    One runner may serve many flow runs, also at the same time: the flow engine enters a
    duplicate for each, and each that uses ``run_job`` has a run directory of its own.
    """

    backend: ClassVar[str]

    def __init__(
        self,
        max_parallel: int | None = None,
        resources: Resources | None = None,
        *,
        runs: str | os.PathLike[str] | None = None,
        run_name: str | None = None,
        cwd: str | os.PathLike[str] | None = None,
        observers: Iterable[ObserverOrMaker] = (),
        replace_observers: bool = False,
        fail_fast: bool = False,
        grace_s: float | None = None,
        on_crash: OnCrash = "kill",
        adopt_within_s: float = DEFAULT_ADOPT_WITHIN_S,
        wait: bool = False,
        report_wait_s: float = DEFAULT_REPORT_WAIT_S,
        report_limit: int = DEFAULT_REPORT_LIMIT,
        max_threads: int | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.settings: dict[str, Any] = {
            "max_parallel": max_parallel,
            "resources": {name: _supply(given) for name, given in (resources or {}).items()},
            "runs": None if runs is None else Path(runs),
            "run_name": None if run_name is None else checked_run_name(run_name),
            "cwd": None if cwd is None else Path(cwd),
            "observers": tuple(observers),
            "replace_observers": replace_observers,
            "fail_fast": fail_fast,
            "grace_s": grace_s,
            "on_crash": on_crash,
            "adopt_within_s": adopt_within_s,
            "wait": wait,
            "report_wait_s": report_wait_s,
            "report_limit": report_limit,
            "max_threads": max_threads,
        }
        """Everything that ``duplicate`` copies and equality compares."""
        self._set_up()

    def _set_up(self) -> None:
        """Make what belongs to this one object and is neither copied nor compared."""
        self._origin: JobTaskRunner = self
        self._memory = JobMemory()
        self._active: weakref.WeakSet[JobTaskRunner] = weakref.WeakSet()
        self._threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(
            self.settings["max_threads"]
        )
        self._opening = threading.Lock()
        self._jobs: FlowJobs | None = None
        self._batches = threading.local()

    # -- settings --------------------------------------------------------------------------

    def duplicate(self) -> Self:
        """Return a runner with the same settings, which knows what earlier attempts passed."""
        copy = type(self)(**self.settings)
        copy._origin = self._origin
        return copy

    def __eq__(self, other: object) -> bool:
        """Whether the other one is of the same kind and has the same settings."""
        return type(self) is type(other) and self.settings == other.settings

    __hash__ = object.__hash__  # a runner that lives is itself, whatever its settings

    def __getstate__(self) -> dict[str, Any]:
        """Return what goes with a flow that is sent to another process: the settings."""
        return self.settings

    def __setstate__(self, settings: dict[str, Any]) -> None:
        """Make a fresh runner of the settings."""
        self.__init__(**settings)  # type: ignore[misc]

    # -- what Prefect calls ----------------------------------------------------------------

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> AnyFuture:
        """Make a job a node of the run's graph; have any other task run in a thread.

        ``dependencies`` is what Prefect's ``map`` knows of the data; jobs do not need it, since
        the data is there when ``map`` hands it out.
        """
        if not self._started:
            raise RuntimeError("The task runner must be started before submitting work.")
        if isinstance(task, JobTask):
            return self._submit_job(task, parameters, wait_for)
        future = self._threads.submit(task, parameters, wait_for, dependencies)
        jobs = self._flow_jobs()
        if jobs is not None:
            jobs.tasks.watch(task.name, future)
        return future

    def map(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
    ) -> PrefectFutureList[Any]:
        """Submit one task for each set of parameters; of jobs all or none, in one batch."""
        if not isinstance(task, JobTask):
            return super().map(task, parameters, wait_for)
        with self._batch() as batch:
            placeholders = super().map(_any_task(task), parameters, wait_for)
        futures = self._require_jobs().submit(batch)
        assert len(futures) == len(placeholders), "map lost a job; this is a bug"
        return PrefectFutureList(futures)  # type: ignore[abstract]  # Prefect's own way

    def cancel_all(self) -> None:
        """Cancel every flow run that this runner, or a duplicate of it, is serving.

        Returns when no process of theirs is left.  Prefect calls it on the runner of the flow,
        not on the duplicate that serves the flow run.
        """
        for runner in list(self._origin._active):
            jobs = runner._jobs
            if jobs is not None:
                jobs.cancel(Stop("Prefect", "Prefect cancelled the flow run"))

    def __enter__(self) -> Self:
        """Make ready; a run is opened when the first job comes."""
        super().__enter__()
        self._threads.__enter__()
        self._origin._active.add(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the run, wait until no process of it is left and no plain task runs."""
        try:
            if self._jobs is not None:
                self._jobs.leave(exc_value)
        finally:
            self._threads.__exit__(exc_type, exc_value, traceback)
            if self._jobs is not None:
                self._jobs.dismiss()
            self._origin._active.discard(self)
            super().__exit__(exc_type, exc_value, traceback)

    # -- what run_job asks -----------------------------------------------------------------

    def submit_job(self, job: JobSpec | JobRecord, *, wait_for: Any = None) -> JobFuture:
        """Make the job a node of the flow run's graph; returns at once."""
        request = JobRequest(run_job, job, wait_for, tags=_tags())
        return self._require_jobs().submit([request])[0]

    # -- within ----------------------------------------------------------------------------

    def _submit_job(self, task: JobTask, parameters: dict[str, Any], wait_for: Any) -> AnyFuture:
        spec = _unwrapped(parameters["spec"])
        batch: list[JobRequest] | None = getattr(self._batches, "open", None)
        if batch is None:
            request = JobRequest(task, spec, wait_for, tags=_tags())
            return self._require_jobs().submit([request])[0]
        batch.append(JobRequest(task, spec, wait_for, index=len(batch), tags=_tags()))
        return _PLACEHOLDER

    @contextmanager
    def _batch(self) -> Iterator[list[JobRequest]]:
        """While open, jobs that this thread submits are collected."""
        self._batches.open = []
        try:
            yield self._batches.open
        finally:
            self._batches.open = None

    def _require_jobs(self) -> FlowJobs:
        jobs = self._flow_jobs()
        if jobs is None:
            raise NoJobRunnerError(NO_RUNNER)
        return jobs

    def _flow_jobs(self) -> FlowJobs | None:
        """Return the jobs of the flow run that calls; ``None`` outside a flow run."""
        context = FlowRunContext.get()
        if self._jobs is not None or context is None or context.flow_run is None:
            return self._jobs
        with self._opening:
            if self._jobs is None:
                self._jobs = self._open(context)
        return self._jobs

    def _backend_makers(self) -> Mapping[str, Callable[[RunContext], Backend]]:
        """Return how to make the backends that need more than the run's context."""
        return {}

    def _open(self, context: FlowRunContext) -> FlowJobs:
        flow, flow_run = context.flow, context.flow_run
        assert flow is not None, "a flow run without a flow; this is a bug"
        assert flow_run is not None, "asked for before; this is a bug"
        api_url = str(context.client.api_url)
        run = FlowRunSession(
            self.settings, self.backend, flow.name, flow_run, api_url, self._backend_makers()
        )
        # Only a flow that retries needs to know what passed before.
        jobs = FlowJobs(flow, flow_run, run, self._origin._memory if flow.retries else None)
        guard_final_states(context.client, flow_run.id, jobs)
        return jobs


class LocalTaskRunner(JobTaskRunner):
    """Runs jobs as processes on this host: ``@flow(task_runner=LocalTaskRunner())``."""

    backend = "local"


class FakeTaskRunner(JobTaskRunner):
    """Runs no process: ``policy`` decides how each attempt ends and how long it seems to take.

    For trying out a flow, and for its tests.  Without a policy everything passes at once; see
    ``backends.fake_policy``.  Takes every setting of ``JobTaskRunner`` too.
    """

    backend = "fake"

    def __init__(
        self, max_parallel: int | None = None, *, policy: FakePolicy | None = None, **settings: Any
    ) -> None:
        super().__init__(max_parallel, **settings)
        self.settings["policy"] = policy

    def _backend_makers(self) -> Mapping[str, Callable[[RunContext], Backend]]:
        policy = self.settings["policy"]
        return {} if policy is None else {"fake": lambda context: FakeBackend(context, policy)}


class _Placeholder(PrefectFuture[Any]):
    """Stands in Prefect's list for a mapped job until the whole batch is added."""

    def __init__(self) -> None:
        """Set nothing that Prefect's own constructor would."""

    def wait(self, timeout: float | None = None) -> None:
        """Never called."""

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """Never called."""

    def add_done_callback(self, fn: Callable[[PrefectFuture[Any]], None]) -> None:
        """Never called."""


_PLACEHOLDER = _Placeholder()


def _any_task(task: Task[Any, Any]) -> Task[Any, Any]:
    """Forget what a task takes and returns, which Prefect's overloads cannot follow."""
    return task


def _unwrapped(value: object) -> object:
    """Return what is in Prefect's annotations: for a job they change nothing."""
    while isinstance(value, BaseAnnotation):
        value = value.unwrap()
    return value


def _tags() -> tuple[str, ...]:
    return tuple(sorted(TagsContext.get().current_tags))


def _supply(given: int | Sequence[str | int]) -> int | tuple[str, ...]:
    """Return a resource as a count or as the ids to hand out."""
    return given if isinstance(given, int) else tuple(str(name) for name in given)

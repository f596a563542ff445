"""The seam between the scheduler and everything that can run a job.

A backend has two abstract methods, both on batches: ``launch`` and ``kill``.  What became of an
attempt comes back through one callback, in batches too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from backends.job_environment import job_environment
from backends.job_files import (
    ENVIRONMENT_NAME,
    LOG_NAME,
    make_job_directory,
    renew_job_directory,
)
from backends.judge import cause_of_checks
from tasks.environment_file import write_environment_file
from tasks.events import JobEnd
from tasks.run_context import RunContext
from tasks.spec import JobRecord
from tasks.status import Cause, JobStatus

NO_RESOURCES: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Launch:
    """One attempt of one job, ready to start."""

    number: int
    """The job's number in its run, from 1: the handle that ``kill`` and completions use."""
    job: JobRecord
    attempt: int
    resources: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: NO_RESOURCES)
    """The ids that were handed to this attempt, for each resource it asked for."""


@dataclass(frozen=True, slots=True)
class Completion:
    """How one attempt ended.

    ``cause`` is ``None`` for PASSED, and for KILLED where it was ``kill`` that ended the attempt:
    who asked for that knows why.
    """

    number: int
    attempt: int
    status: JobStatus
    end: JobEnd
    cause: Cause | None = None
    ended_at: float | None = None
    """Seconds since the epoch; ``None`` means: when the completion arrived."""


Completed = Callable[[Sequence[Completion]], None]


class Backend(ABC):
    """Runs attempts of jobs somewhere.

    Life: ``start`` once, then ``launch`` and ``kill`` from one thread, then ``close``, which
    returns when nothing that the backend launched is alive.  Completions may arrive from any
    thread, also during ``launch``.  Each launched attempt completes exactly once, whatever
    happens to it: an error of one launch is that job's ``launch_error``, never an exception.
    """

    name: ClassVar[str]
    supports_interactive: ClassVar[bool] = False

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.terminal_lent: Callable[[bool], None] = lambda lent: None
        """Told True before the user's terminal is a job's, and False when it is back."""

    def check(self, job: JobRecord) -> list[str]:
        """Return why this backend cannot run the job as it is specified; nothing if it can."""
        problem = self.why_not_interactive() if job.interactive else None
        return [] if problem is None else [problem]

    @classmethod
    def why_not_interactive(cls) -> str | None:
        """Return why interactive jobs cannot run here and now; ``None`` if they can."""
        if cls.supports_interactive:
            return None
        return f'backend "{cls.name}" cannot run interactive jobs; use "local"'

    def start(self, completed: Completed) -> None:
        """Make ready; ``completed`` receives every completion from now on."""
        self._completed = completed

    @abstractmethod
    def launch(self, launches: Sequence[Launch]) -> None:
        """Start these attempts; never blocks for long, never raises for a single job."""

    @abstractmethod
    def kill(self, numbers: Sequence[int], grace_s: float | None = None) -> None:
        """End the whole process trees of these jobs.

        ``grace_s`` between SIGTERM and SIGKILL; ``None``: each job's own.  Returns at once; each
        job completes when none of its processes is left.  A number that is not running is
        ignored; a second call may only shorten the grace.
        """

    def ward(self, pid: int) -> None:  # noqa: B027 - without a keeper nobody could see to it
        """Have a process of the run's own, such as a server, end when the driver dies."""

    def close(self) -> None:  # noqa: B027 - a backend that holds nothing need not override
        """Kill what still runs, wait until it is gone, let go of everything.  Idempotent."""

    # -- what any backend that runs real processes needs, for one job ----------------------

    def working_directory(self, job: JobRecord) -> Path:
        """Return where the job runs: its ``cwd``, relative to the run's."""
        return self.context.cwd if job.cwd is None else self.context.cwd / job.cwd

    def grace_s(self, job: JobRecord) -> float:
        """Return the seconds between SIGTERM and SIGKILL: the run's where it sets them."""
        return job.grace_s if self.context.grace_s is None else self.context.grace_s

    def log_path(self, job: JobRecord) -> Path:
        """Return the log of the job's newest attempt."""
        return self.context.job_directory(job.id) / LOG_NAME

    def environment_of(self, launch: Launch) -> dict[str, str]:
        """Return what the attempt finds in its environment beside ``context.environment``."""
        context = self.context
        return job_environment(
            launch.job,
            run=context.run,
            directory=None if context.directory is None else context.job_directory(launch.job.id),
            attempt=launch.attempt,
            resources=launch.resources,
        )

    def prepare_directory(self, launch: Launch, *, renew: bool) -> None:
        """Make the attempt's directory, and its ``env.txt`` where the job has variables.

        With ``renew`` what an earlier attempt left is put away first, which may take long for
        a large directory.  Raises ``OSError``.
        """
        directory = self.context.job_directory(launch.job.id)
        if renew:
            renew_job_directory(directory, keep_previous=launch.job.keep_previous)
        else:
            make_job_directory(directory)
        if launch.job.env:
            write_environment_file(directory / ENVIRONMENT_NAME, self.environment_of(launch))

    def judge(self, completion: Completion, job: JobRecord) -> Completion:
        """Return the completion after the job's declared checks: outputs and log patterns.

        Only an attempt that passed so far is looked at.  Blocks while it reads the log, so no
        thread that others wait for should call it.
        """
        if completion.status is not JobStatus.PASSED:
            return completion
        cause = cause_of_checks(job, cwd=self.working_directory(job), log=self.log_path(job))
        if cause is None:
            return completion
        return replace(completion, status=JobStatus.FAILED, cause=cause)

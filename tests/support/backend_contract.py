"""What every backend must do, as tests; a backend joins by saying how to make one.

A new backend adds a ``ContractKind`` and a line in ``tests/backends/test_contract.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from typing import Any

from support.completions import Completions

from backends.base import Backend, Launch
from tasks.run_context import RunContext
from tasks.spec import JobRecord
from tasks.status import CauseKind, JobStatus


class Behaviour(Enum):
    """What an attempt does when it runs."""

    PASSES = auto()
    EXITS_WITH_3 = auto()
    HANGS = auto()
    HANGS_AND_IGNORES_SIGTERM = auto()
    HAS_NO_PROGRAM = auto()
    HAS_AN_UNWRITABLE_LOG = auto()
    FAILS_ONCE = auto()
    HANGS_ONCE = auto()


class ContractKind(ABC):
    """How the suite makes one backend and jobs that behave on it."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.behaviours: dict[str, Behaviour] = {}
        directory = folder / "run"
        (directory / "jobs").mkdir(parents=True)
        self.context = RunContext("run", directory, cwd=folder)

    @abstractmethod
    def backend(self) -> Backend:
        """Return a backend that is not started."""

    @abstractmethod
    def command(self, job_id: str, behaviour: Behaviour) -> str:
        """Return a command that behaves so; may prepare files for it."""

    def wait_until_it_hangs(self, job_id: str) -> None:  # noqa: B027 - some hang from the start
        """Return when a job that hangs is ready to be killed."""

    def job(self, number: int, behaviour: Behaviour, **rest: Any) -> Launch:
        """Return the first attempt of a job."""
        job_id = f"job-{number}"
        self.behaviours[job_id] = behaviour
        rest.setdefault("grace_s", 0.2)
        return Launch(number, JobRecord(job_id, self.command(job_id, behaviour), (), rest), 1)


@contextmanager
def started(kind: ContractKind) -> Iterator[tuple[Backend, Completions]]:
    backend, completions = kind.backend(), Completions()
    backend.start(completions)
    try:
        yield backend, completions
    finally:
        backend.close()


def again(launch: Launch) -> Launch:
    return Launch(launch.number, launch.job, launch.attempt + 1)


class BackendContract:
    """The suite; ``kind`` is a fixture that the test file defines."""

    def test_a_job_that_exits_with_0_passes_with_its_times(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch([kind.job(1, Behaviour.PASSES)])
            done = completions.of(1)
        assert (done.status, done.cause, done.end.exit_code) == (JobStatus.PASSED, None, 0)
        assert done.end.runtime_s is not None
        assert done.end.runtime_s >= 0

    def test_another_exit_code_fails_and_is_told(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch([kind.job(1, Behaviour.EXITS_WITH_3)])
            done = completions.of(1)
        assert (done.status, done.end.exit_code) == (JobStatus.FAILED, 3)
        assert done.cause is not None
        assert done.cause.kind is CauseKind.EXIT_CODE

    def test_a_missing_program_is_its_jobs_own_error(self, kind: ContractKind) -> None:
        launches = [
            kind.job(1, Behaviour.PASSES),
            kind.job(2, Behaviour.HAS_NO_PROGRAM),
            kind.job(3, Behaviour.PASSES),
        ]
        with started(kind) as (backend, completions):
            backend.launch(launches)
            completions.count(3)
            done = completions.of(2)
        assert done.status is JobStatus.FAILED
        assert done.cause is not None
        assert done.cause.kind is CauseKind.LAUNCH_ERROR
        assert done.end.exit_code is None
        assert completions.of(1).status is completions.of(3).status is JobStatus.PASSED

    def test_an_unwritable_log_is_its_jobs_own_error(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch(
                [kind.job(1, Behaviour.HAS_AN_UNWRITABLE_LOG), kind.job(2, Behaviour.PASSES)]
            )
            completions.count(2)
            done = completions.of(1)
        assert done.status is JobStatus.FAILED
        assert done.cause is not None
        assert done.cause.kind is CauseKind.LAUNCH_ERROR
        assert completions.of(2).status is JobStatus.PASSED

    def test_a_batch_completes_each_attempt_exactly_once(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch([kind.job(number, Behaviour.PASSES) for number in range(1, 41)])
            completions.count(40)
        assert sorted(done.number for done in completions.all) == list(range(1, 41))

    def test_a_time_limit_kills_the_job_and_no_other(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch(
                [kind.job(1, Behaviour.HANGS, timeout_s=0.2), kind.job(2, Behaviour.HANGS)]
            )
            done = completions.of(1)
            assert 2 not in completions
        assert done.status is JobStatus.KILLED
        assert done.cause is not None
        assert done.cause.kind is CauseKind.TIMEOUT
        assert done.end.runtime_s is not None
        assert done.end.runtime_s > 0.199

    def test_a_time_limit_also_ends_what_ignores_sigterm(self, kind: ContractKind) -> None:
        job = kind.job(1, Behaviour.HANGS_AND_IGNORES_SIGTERM, timeout_s=0.3, grace_s=0.1)
        with started(kind) as (backend, completions):
            backend.launch([job])
            done = completions.of(1)
        assert done.cause is not None
        assert (done.cause.kind, done.end.signal) == (CauseKind.TIMEOUT, 9)

    def test_a_second_attempt_runs_anew_after_a_failure(self, kind: ContractKind) -> None:
        first = kind.job(1, Behaviour.FAILS_ONCE)
        with started(kind) as (backend, completions):
            backend.launch([first])
            assert completions.of(1, attempt=1).status is JobStatus.FAILED
            backend.launch([again(first)])
            done = completions.of(1, attempt=2)
        assert (done.attempt, done.status) == (2, JobStatus.PASSED)

    def test_a_second_attempt_runs_anew_after_a_time_limit(self, kind: ContractKind) -> None:
        first = kind.job(1, Behaviour.HANGS_ONCE, timeout_s=0.3)
        with started(kind) as (backend, completions):
            backend.launch([first])
            cause = completions.of(1, attempt=1).cause
            assert cause is not None
            assert cause.kind is CauseKind.TIMEOUT
            backend.launch([again(first)])
            assert completions.of(1, attempt=2).status is JobStatus.PASSED

    def test_kill_ends_the_job_and_leaves_the_reason_to_who_asked(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch([kind.job(1, Behaviour.HANGS), kind.job(2, Behaviour.HANGS)])
            kind.wait_until_it_hangs("job-1")
            backend.kill([1])
            done = completions.of(1)
            assert 2 not in completions
        assert (done.status, done.cause) == (JobStatus.KILLED, None)

    def test_kill_takes_the_grace_time_for_what_ignores_sigterm(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch([kind.job(1, Behaviour.HANGS_AND_IGNORES_SIGTERM)])
            kind.wait_until_it_hangs("job-1")
            backend.kill([1], grace_s=0.15)
            done = completions.of(1)
        assert (done.status, done.cause, done.end.signal) == (JobStatus.KILLED, None, 9)

    def test_a_second_kill_shortens_the_grace_and_completes_once(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch([kind.job(1, Behaviour.HANGS_AND_IGNORES_SIGTERM)])
            kind.wait_until_it_hangs("job-1")
            backend.kill([1], grace_s=3600.0)
            backend.kill([1], grace_s=0.0)
            done = completions.of(1)
        assert (done.status, done.end.signal) == (JobStatus.KILLED, 9)
        assert len(completions.all) == 1

    def test_a_second_kill_never_lengthens_the_grace(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch([kind.job(1, Behaviour.HANGS_AND_IGNORES_SIGTERM)])
            kind.wait_until_it_hangs("job-1")
            backend.kill([1], grace_s=0.1)
            backend.kill([1], grace_s=3600.0)
            assert completions.of(1).status is JobStatus.KILLED

    def test_kill_of_what_does_not_run_is_ignored(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch([kind.job(1, Behaviour.PASSES)])
            completions.of(1)
            backend.kill([1, 77])
            backend.kill([])
            backend.launch([kind.job(2, Behaviour.PASSES)])
            completions.of(2)
        assert [done.status for done in completions.all] == [JobStatus.PASSED] * 2

    def test_kill_right_after_launch_ends_the_job(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch([kind.job(1, Behaviour.HANGS)])
            backend.kill([1])
            assert completions.of(1).status is JobStatus.KILLED

    def test_close_ends_live_jobs_before_it_returns(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch(
                [
                    kind.job(1, Behaviour.HANGS),
                    kind.job(2, Behaviour.HANGS_AND_IGNORES_SIGTERM),
                ]
            )
            kind.wait_until_it_hangs("job-1")
            backend.close()
            ended = {done.number: done.status for done in completions.all}
        assert ended == {1: JobStatus.KILLED, 2: JobStatus.KILLED}

    def test_close_twice_is_close_once(self, kind: ContractKind) -> None:
        with started(kind) as (backend, completions):
            backend.launch([kind.job(1, Behaviour.PASSES)])
            completions.of(1)
            backend.close()
            backend.close()
        assert len(completions.all) == 1

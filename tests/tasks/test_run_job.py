"""``run_job``: what its options do to a job, what it refuses, and what it needs around it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, tags, task
from prefect.cache_policies import INPUTS, NO_CACHE
from prefect.tasks import Task
from prefect.transactions import Transaction, transaction
from support.flow_runs import FlowBench, bench

from flows.task_runners import FakeTaskRunner, LocalTaskRunner
from tasks.errors import InputError
from tasks.job_options import REFUSED
from tasks.job_result import JobFailedError, JobResult
from tasks.run_job import NO_RUNNER, JobTask, NoJobRunnerError, run_job
from tasks.spec import JobRecord, JobSpec
from tasks.status import Cause, CauseKind, JobStatus

__all__ = ["bench"]


def spec(name: str = "a", command: str = "true", **fields: object) -> JobSpec:
    return JobSpec.model_validate({"id": name, "command": command, **fields})


# -- options that override a job's fields ----------------------------------------------------


def test_options_win_over_what_the_specification_says() -> None:
    patient = run_job.with_options(
        name="renamed",
        tags=["z", "y"],
        retries=4,
        retry_delay_seconds=1.5,
        timeout_seconds=30,
    )
    job = patient.job(spec("given", tags=["old"], retries=1, timeout_s=5, weight=3))

    assert job.to_json() == {
        "id": "renamed",
        "command": "true",
        "tags": ("z", "y"),
        "retries": 4,
        "retry_delay_s": 1.5,
        "timeout_s": 30.0,
        "weight": 3,
    }


def test_an_option_of_zero_is_an_option() -> None:
    job = run_job.with_options(retries=0, retry_delay_seconds=0).job(spec(retries=2))
    assert (job.retries, job.retry_delay_s) == (0, 0.0)


def test_options_add_up_and_leave_the_task_they_come_from_alone() -> None:
    first = run_job.with_options(retries=2, description="tries again")
    second = first.with_options(timeout_seconds=9)

    assert (second.job(spec()).retries, second.job(spec()).timeout_s) == (2, 9.0)
    assert first.job(spec()).timeout_s is None
    assert run_job.job(spec()).retries == 0
    assert (first.description, first.retries) == ("tries again", 2)


def test_mapped_jobs_share_a_name_with_a_number_behind() -> None:
    named = run_job.with_options(name="sim")
    assert [named.job(spec(), index).id for index in range(3)] == ["sim-0", "sim-1", "sim-2"]


def test_a_job_of_a_dag_file_is_taken_as_it_is() -> None:
    record = JobRecord("from-file", "true", (), {"retries": 1})
    assert run_job.job(record) is record
    assert run_job.with_options(retries=3).job(record).retries == 3


def test_a_copied_task_keeps_its_options() -> None:
    assert copy.copy(run_job.with_options(retries=3)).job(spec()).retries == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, r"with_options\(retries=-1\): .*greater than or equal to 0"),
        ({"retries": True}, r"with_options\(retries=True\)"),
        ({"timeout_seconds": 0}, r"with_options\(timeout_seconds=0\): .*greater than 0"),
        ({"retry_delay_seconds": [1, 2]}, r"with_options\(retry_delay_seconds=\(1, 2\)\)"),
        ({"name": "../x"}, r"with_options\(name='\.\./x'\)"),
        ({"tags": [3]}, r"with_options\(tags=\(3,\)\)"),
    ],
)
def test_a_wrong_value_is_refused_where_it_is_given(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_job.with_options(**options)


def test_an_option_that_prefect_does_not_know_is_no_option() -> None:
    with pytest.raises(TypeError, match="colour"):
        run_job.with_options(colour="red")


# -- options that a job cannot honour --------------------------------------------------------


def hook(*_: object) -> None:
    """Never called."""


REFUSED_OPTIONS: dict[str, Any] = {
    "task_run_name": "{spec.id}",
    "cache_policy": INPUTS,
    "cache_key_fn": lambda context, parameters: "key",
    "cache_expiration": timedelta(days=1),
    "refresh_cache": True,
    "persist_result": True,
    "result_storage": "local-file-system/results",
    "result_serializer": "json",
    "result_storage_key": "key",
    "cache_result_in_memory": True,
    "retry_condition_fn": lambda *_: True,
    "retry_jitter_factor": 0.5,
    "log_prints": True,
    "on_completion": [hook],
    "on_failure": [hook],
    "on_running": [hook],
    "viz_return_value": 3,
    "asset_deps": ["s3://bucket/key"],
}


@pytest.mark.parametrize("option", REFUSED_OPTIONS)
def test_an_option_without_a_meaning_for_jobs_is_refused_with_the_way_out(option: str) -> None:
    with pytest.raises(InputError) as caught:
        run_job.with_options(**{option: REFUSED_OPTIONS[option]})
    assert str(caught.value) == f'run_job does not support "{option}": {REFUSED[option]}'


def test_every_option_of_prefects_tasks_works_or_is_refused() -> None:
    import inspect

    options = set(inspect.signature(Task.with_options).parameters) - {"self"}
    works = {"name", "description", "tags", "retries", "retry_delay_seconds", "timeout_seconds"}
    assert options == works | REFUSED_OPTIONS.keys()


def test_asking_for_what_is_so_anyhow_is_no_option() -> None:
    task = run_job.with_options(
        persist_result=False, cache_policy=NO_CACHE, log_prints=False, refresh_cache=None
    )
    assert task.overrides == {}


@pytest.mark.parametrize(
    "method", ["on_completion", "on_failure", "on_running", "on_commit", "on_rollback"]
)
def test_hooks_are_refused_as_decorators_too(method: str) -> None:
    with pytest.raises(InputError, match=f'run_job does not support "{method}"'):
        getattr(run_job, method)(hook)


@pytest.mark.parametrize("method", ["delay", "apply_async", "serve"])
def test_background_tasks_are_refused(method: str) -> None:
    with pytest.raises(InputError, match=f'"{method}": a task worker runs no jobs'):
        getattr(run_job, method)(spec())


async def refuse_aserve() -> None:
    await run_job.aserve()


def test_serving_from_async_code_is_refused() -> None:
    import asyncio

    with pytest.raises(InputError, match='"aserve": a task worker runs no jobs'):
        asyncio.run(refuse_aserve())


def test_mapping_to_background_tasks_is_refused() -> None:
    with pytest.raises(InputError, match='"deferred": a task worker runs no jobs'):
        run_job.map([spec()], deferred=True)


# -- where it works --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda: run_job(spec()),
        lambda: run_job.submit(spec()),
        lambda: run_job.map([spec()]),
    ],
)
def test_outside_a_flow_it_says_what_it_needs(use: Callable[[], object]) -> None:
    with pytest.raises(NoJobRunnerError) as caught:
        use()
    assert str(caught.value) == NO_RUNNER
    assert NO_RUNNER == "run_job needs a Holdfast task runner: @flow(task_runner=LocalTaskRunner())"


@pytest.mark.prefect
def test_under_another_task_runner_it_says_what_it_needs(bench: FlowBench) -> None:
    @flow
    def native() -> list[str]:
        messages = []
        for use in (run_job, run_job.submit, lambda job: run_job.map([job])):
            with pytest.raises(NoJobRunnerError) as caught:
                use(spec())
            messages.append(str(caught.value))
        with pytest.raises(NoJobRunnerError) as caught:
            Task(run_job.fn, name="disguised")(spec())
        return [*messages, str(caught.value)]

    assert native() == [NO_RUNNER] * 4


@pytest.mark.prefect
def test_a_task_made_of_its_function_runs_the_job_within_prefects_engine(bench: FlowBench) -> None:
    disguised = Task(run_job.fn, name="disguised", retries=1)

    @flow(task_runner=LocalTaskRunner())
    def wrapped() -> JobResult:
        return disguised.submit(spec("inside", "echo in")).result()

    assert wrapped().passed
    assert bench.statuses() == {"inside": "passed"}


@pytest.mark.prefect
def test_options_reach_the_process_the_result_and_the_task_run(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def options() -> tuple[int, str]:
        # Fails on its first attempt and passes on the second.
        flaky = spec("flaky", "echo $HOLDFAST_ATTEMPT; test $HOLDFAST_ATTEMPT = 2")
        retried = run_job.with_options(retries=1, name="renamed", tags={"nightly"}).submit(flaky)
        late = run_job.with_options(timeout_seconds=0.2, name="late")
        with pytest.raises(JobFailedError) as caught:
            late(spec("any", "sleep 60", timeout_s=100))
        assert caught.value.result.cause is not None
        return retried.result().attempts, caught.value.result.cause.kind.value

    assert options() == (2, "timeout")
    found = bench.task_runs("renamed", "late")
    assert set(found) == {"renamed", "late"}
    assert found["renamed"]["tags"] == ["nightly"]
    assert found["late"]["state_name"] == "TimedOut"


@pytest.mark.prefect
def test_mapped_jobs_with_a_name_run_under_numbered_names(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def mapped() -> None:
        run_job.with_options(name="seed").map([spec("x"), spec("x")]).result()

    mapped()
    assert bench.statuses() == {"seed-0": "passed", "seed-1": "passed"}


@pytest.mark.prefect
def test_tags_of_the_context_join_those_of_the_job(bench: FlowBench) -> None:
    @flow(task_runner=FakeTaskRunner())
    def tagged() -> tuple[str, ...]:
        with tags("weekly", "own"):
            future = run_job.submit(spec("a", tags=["own"]))
        future.result()
        return future.job.tags

    assert tagged() == ("own", "weekly")


@pytest.mark.prefect
def test_a_failed_job_rolls_a_transaction_back_and_a_passed_one_lets_it_commit(
    bench: FlowBench, tmp_path: Path
) -> None:
    undone: list[str] = []

    @task
    def prepare(name: str) -> str:
        (tmp_path / name).touch()
        return name

    @prepare.on_rollback
    def undo(transaction: Transaction) -> None:
        undone.append("prepare")

    @flow(task_runner=LocalTaskRunner())
    def transactional() -> None:
        with transaction():
            prepare("first")
            run_job(spec("good"))
        assert undone == []
        with pytest.raises(JobFailedError), transaction():  # noqa: PT012 - the job raises
            prepare("second")
            run_job(spec("bad", "exit 1"))

    transactional()
    assert undone == ["prepare"]


@pytest.mark.prefect
def test_a_flow_with_jobs_can_be_drawn_without_running_any(
    bench: FlowBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.utilities.visualization import TaskVizTracker

    with TaskVizTracker() as tracker:
        run_job(spec("a"))
    assert [task.name for task in tracker.tasks] == ["run_job-0"]
    assert bench.run_directories() == []


# -- results and errors ----------------------------------------------------------------------


def failed_result() -> JobResult:
    return JobResult(
        id="sim",
        status=JobStatus.FAILED,
        exit_code=7,
        signal=None,
        runtime_s=1.5,
        attempts=2,
        log=Path("/runs/r/jobs/sim/log.txt"),
        directory=Path("/runs/r/jobs/sim"),
        cause=Cause(CauseKind.EXIT_CODE, "exit code 7", {"exit_code": 7}),
    )


def test_the_error_of_a_job_tells_cause_and_log() -> None:
    error = JobFailedError(failed_result())
    assert str(error) == (
        'job "sim" failed: exit code 7 (exit_code); log: /runs/r/jobs/sim/log.txt'
    )
    assert error.exit_code == 1


def test_results_and_errors_survive_being_stored_by_prefect() -> None:
    error = pickle.loads(pickle.dumps(JobFailedError(failed_result())))
    assert error.result == failed_result()
    assert str(error) == str(JobFailedError(failed_result()))
    problems = pickle.loads(pickle.dumps(InputError(["first", "second"])))
    assert problems.problems == ("first", "second")


def test_run_job_is_a_task_of_prefect() -> None:
    assert isinstance(run_job, JobTask)
    assert isinstance(run_job, Task)
    assert run_job.name == "run_job"

"""Flows of one's own under ``LocalTaskRunner``: real processes, a real Prefect server."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.exceptions import UnfinishedRun
from prefect.futures import as_completed, wait
from prefect.states import State
from prefect.utilities.annotations import allow_failure, unmapped
from support.flow_runs import FlowBench, bench, run_async

from flows import JobSpec, LocalTaskRunner, run_job
from flows.unseen_failures import UnseenFailureError
from tasks.errors import InputError
from tasks.job_result import JobFailedError, JobResult
from tasks.prefect_ids import task_run_id
from tasks.status import CauseKind, JobStatus

__all__ = ["bench"]

pytestmark = pytest.mark.prefect


def job(name: str, command: str = "true", **fields: object) -> JobSpec:
    return JobSpec.model_validate({"id": name, "command": command, **fields})


@task
def double(number: int) -> int:
    return 2 * number


@task
def exit_code_of(result: JobResult) -> int | None:
    return result.exit_code


@task
def make_spec(name: str) -> JobSpec:
    return job(name, "echo made")


@task
def break_down() -> None:
    raise RuntimeError("plain task broke down")


# -- submitting ------------------------------------------------------------------------------


def test_a_submitted_job_runs_as_a_process_and_its_result_tells_of_it(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def one_job() -> JobResult:
        return run_job.submit(job("hello", "echo $$ $PPID; exit 0")).result()

    result = one_job()

    assert (result.id, result.status, result.exit_code) == ("hello", JobStatus.PASSED, 0)
    assert result.directory == bench.only_run() / "jobs" / "hello"
    assert result.log is not None
    pid, parent = map(int, result.log.read_text().split())
    assert os.getpid() not in (pid, parent), "a job is a child of the keeper, not of the flow"
    assert result.runtime_s is not None
    assert bench.statuses() == {"hello": "passed"}


def test_a_flow_run_gets_the_same_links_journal_and_task_runs_as_the_command_line(
    bench: FlowBench,
) -> None:
    @flow(task_runner=LocalTaskRunner())
    def nightly() -> list[State]:
        build = run_job.submit(job("build", tags=["first"]))
        tests = run_job.map([job("test-1"), job("test-2", "exit 3")], wait_for=[build])
        return [future.state for future in tests if future.wait() is None]

    state = nightly(return_state=True)

    run = bench.only_run()
    assert state.is_failed()
    assert os.readlink(run / "passing" / "build") == "../jobs/build"
    assert os.readlink(run / "failed" / "test-2") == "../jobs/test-2"
    assert (run / "events.jsonl").read_text().count('"to":"passed"') == 2
    file = bench.run_file()
    assert (file["name"], file["status"]) == ("nightly", "failed")
    assert file["flow_run_id"] == str(state.state_details.flow_run_id)
    found = bench.task_runs("build", "test-1", "test-2")
    assert {name: run["state_name"] for name, run in found.items()} == {
        "build": "Completed",
        "test-1": "Completed",
        "test-2": "Failed",
    }
    build_id = found["build"]["id"]
    assert build_id == str(task_run_id(file["flow_run_id"], "build"))
    parents = [
        entry["id"] for inputs in found["test-1"]["task_inputs"].values() for entry in inputs
    ]
    assert parents == [build_id]
    assert found["build"]["tags"] == ["first"]


def test_no_job_passes_through_prefects_engine_for_tasks(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def three_ways() -> None:
        run_job.submit(job("submitted")).result()
        run_job.map([job("mapped")]).result()
        run_job(job("called"))

    three_ways()

    assert set(bench.task_runs("submitted", "mapped", "called")) == {
        "submitted",
        "mapped",
        "called",
    }


def test_map_makes_one_job_of_each_specification_in_order(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def mapped() -> list[str]:
        futures = run_job.map([job(f"m{n}", f"echo {n}") for n in range(20)])
        return [result.log.read_text() for result in futures.result() if result.log]

    assert mapped() == [f"{n}\n" for n in range(20)]


def test_map_adds_all_jobs_or_none(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def mapped() -> None:
        run_job.submit(job("first")).result()
        with pytest.raises(InputError, match='job "twice": another run_job of this flow run'):
            run_job.map([job("single"), job("twice"), job("twice")])
        with pytest.raises(InputError, match="nowhere"):
            run_job.map([job("good"), job("bad", needs=["nowhere"])])
        run_job.submit(job("single")).result()

    mapped()

    assert bench.statuses() == {"first": "passed", "single": "passed"}


def test_map_over_the_future_of_a_task_that_makes_specifications(bench: FlowBench) -> None:
    @task
    def make_specs() -> list[JobSpec]:
        return [job("x"), job("y")]

    @flow(task_runner=LocalTaskRunner())
    def mapped() -> list[str]:
        futures = run_job.map(make_specs.submit())
        return [result.id for result in futures.result()]

    assert mapped() == ["x", "y"]


def test_a_plain_task_is_mapped_over_jobs(bench: FlowBench) -> None:
    @task
    def describe(result: JobResult, word: str) -> str:
        return f"{word} {result.id}"

    @flow(task_runner=LocalTaskRunner())
    def mapped() -> list[str]:
        jobs = run_job.map([job("x"), job("y")])
        return describe.map(jobs, unmapped("job")).result()

    assert mapped() == ["job x", "job y"]


def test_a_direct_call_submits_and_waits(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def calls() -> int | None:
        return run_job(job("direct", "exit 0")).exit_code

    assert calls() == 0


def test_a_direct_call_raises_what_went_wrong(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def calls() -> None:
        run_job(job("direct", "echo no luck; exit 9"))

    with pytest.raises(JobFailedError, match=r'job "direct" failed: .*9.*exit_code.*log\.txt'):
        calls()
    assert bench.state() == ("FAILED", "Failed")


def test_a_direct_call_can_return_the_state(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def calls() -> str | None:
        return run_job(job("direct", "exit 9"), return_state=True).name

    assert calls() == "Failed"


def test_run_job_within_a_plain_task_runs_the_job_in_the_same_run(bench: FlowBench) -> None:
    @task
    def measure(name: str) -> float | None:
        return run_job(job(name)).runtime_s

    @flow(task_runner=LocalTaskRunner())
    def outer() -> list[float | None]:
        return [future.result() for future in [measure.submit("a"), measure.submit("b")]]

    assert len(outer()) == 2
    assert bench.statuses() == {"a": "passed", "b": "passed"}


def test_ids_are_unique_in_a_run(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def twice() -> None:
        run_job(job("same"))
        with pytest.raises(InputError, match="give each JobSpec an id of its own"):
            run_job.submit(job("same", "echo other"))

    twice()


def test_what_is_no_specification_is_refused_with_an_example(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def wrong() -> None:
        for value in ("make", 3, {"id": "x", "command": "true"}):
            with pytest.raises(InputError, match="run_job takes a JobSpec, found"):
                run_job.submit(value)

    wrong()
    assert bench.run_directories() == [], "bad input leaves no run behind"


# -- waiting for each other ------------------------------------------------------------------


def test_wait_for_makes_edges_of_the_jobs_graph(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner(max_parallel=4))
    def chain() -> None:
        a = run_job.submit(job("a", "sleep 0.2; touch $HOLDFAST_JOB_DIR/../done"))
        b = run_job.submit(job("b", "test -e $HOLDFAST_JOB_DIR/../done"), wait_for=[a])
        c = run_job.submit(job("c", needs=["b"]), wait_for=a)
        assert c.result().passed
        assert b.result().passed
        assert c.job.needs == ("b", "a")

    chain()


def test_a_job_whose_dependency_failed_never_runs(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def chain() -> tuple[str | None, str]:
        a = run_job.submit(job("a", "exit 1"))
        b = run_job.submit(job("b", "touch $HOLDFAST_JOB_DIR/ran"), wait_for=[a])
        with pytest.raises(JobFailedError, match='needs "a", which failed') as caught:
            b.result()
        assert caught.value.result.cause is not None
        return b.state.name, caught.value.result.cause.kind.value

    assert chain() == ("UpstreamFailed", "dependency")
    assert not (bench.only_run() / "jobs" / "b" / "ran").exists()


def test_a_plain_task_waits_for_a_job_and_gets_its_result(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def mixed() -> int | None:
        return exit_code_of.submit(run_job.submit(job("a", "sleep 0.2"))).result()

    assert mixed() == 0


def test_a_plain_task_after_a_failed_job_does_not_run(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def mixed() -> None:
        failed = run_job.submit(job("a", "exit 1"))
        after = double.submit(1, wait_for=[failed])
        after.wait()
        assert after.state.name == "NotReady"
        with pytest.raises(UnfinishedRun):
            after.result()
        assert failed.state.is_failed()

    assert mixed(return_state=True).is_completed()


def test_a_job_waits_for_a_plain_task(bench: FlowBench, tmp_path: Path) -> None:
    @task
    def write(path: Path) -> None:
        path.write_text("there")

    @flow(task_runner=LocalTaskRunner())
    def mixed() -> str:
        written = write.submit(tmp_path / "input")
        return (
            run_job.submit(job("reads", "cat input"), wait_for=[written]).result().log.read_text()
        )

    assert mixed() == "there"


def test_a_job_after_a_failed_plain_task_is_killed_for_its_dependency(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def mixed() -> None:
        broken = break_down.submit()
        held = run_job.submit(job("held"), wait_for=[broken])
        after = run_job.submit(job("after"), wait_for=[held])
        with pytest.raises(JobFailedError, match="ended in state Failed"):
            held.result()
        with pytest.raises(JobFailedError, match='needs "held"'):
            after.result()

    assert mixed(return_state=True).is_completed()
    assert {name: job["cause"]["kind"] for name, job in bench.jobs().items()} == {
        "held": "dependency",
        "after": "dependency",
    }


def test_a_state_in_wait_for_counts_as_the_task_that_it_tells_of(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def states() -> tuple[str | None, str | None]:
        good = double(1, return_state=True)
        bad = break_down(return_state=True)
        first = run_job.submit(job("first"), wait_for=[good])
        second = run_job.submit(job("second"), wait_for=[{"nested": (good, bad)}])
        return first.result().status.value, run_job_state(second)

    def run_job_state(future: object) -> str | None:
        future.wait()  # type: ignore[attr-defined]
        return future.state.name  # type: ignore[attr-defined]

    assert states() == ("passed", "UpstreamFailed")


def test_a_future_as_parameter_makes_the_job(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def made() -> tuple[str, str]:
        future = run_job.submit(make_spec.submit("made-by-a-task"))
        after = run_job.submit(job("after"), wait_for=[future])
        assert after.result().passed
        return future.result().id, str(future.task_run_id)

    made_id, run_id = made()
    assert made_id == "made-by-a-task"
    assert run_id == str(task_run_id(bench.flow_run_id(), "made-by-a-task"))


def test_a_future_that_makes_no_specification_ends_the_job_with_the_reason(
    bench: FlowBench,
) -> None:
    @flow(task_runner=LocalTaskRunner())
    def made() -> None:
        wrong = run_job.submit(double.submit(21))
        with pytest.raises(JobFailedError, match="run_job takes a JobSpec, found int"):
            wrong.result()
        broken = run_job.submit(break_down.submit())
        with pytest.raises(JobFailedError, match="ended in state Failed"):
            broken.result()
        taken = run_job.submit(make_spec.submit("one"))
        assert taken.result().passed
        again = run_job.submit(make_spec.submit("one"))
        with pytest.raises(JobFailedError, match="give each JobSpec an id of its own"):
            again.result()
        after = run_job.submit(job("after"), wait_for=[broken])
        with pytest.raises(JobFailedError, match="UpstreamFailed"):
            after.result()

    assert made(return_state=True).is_completed()


def test_allow_failure_lets_a_job_run_after_one_that_failed(bench: FlowBench) -> None:
    @task
    def tell(outcome: object) -> str:
        return type(outcome).__name__

    @flow(task_runner=LocalTaskRunner())
    def tolerant() -> tuple[bool, bool, str]:
        failed = run_job.submit(job("fails", "exit 1"))
        broken = break_down.submit()
        after_job = run_job.submit(job("after-job"), wait_for=[allow_failure(failed)])
        after_task = run_job.submit(job("after-task"), wait_for=allow_failure([broken]))
        told = tell.submit(allow_failure(failed))
        return after_job.result().passed, after_task.result().passed, told.result()

    assert tolerant() == (True, True, "JobFailedError")
    assert bench.state() == ("COMPLETED", "Completed")


def test_jobs_of_a_calling_flow_are_waited_for_in_a_subflow(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def inner(waits: list[object]) -> list[bool]:
        return [run_job.submit(job("b"), wait_for=waits).result().passed]

    @flow(task_runner=LocalTaskRunner())
    def outer() -> list[bool]:
        a = run_job.submit(job("a", "sleep 0.2"))
        return inner([a])

    assert outer() == [True]


# -- flows of every kind ---------------------------------------------------------------------


def test_a_subflow_with_a_runner_of_its_own_has_a_run_of_its_own(bench: FlowBench) -> None:
    runner = LocalTaskRunner()

    @flow(task_runner=runner)
    def inner(name: str) -> str:
        return run_job(job(name)).id

    @flow(task_runner=runner)
    def outer() -> list[str]:
        first = run_job.submit(job("same"))
        return [inner("same"), first.result().id]

    assert outer() == ["same", "same"]
    names = [bench.run_file(run)["name"] for run in bench.run_directories()]
    assert sorted(names) == ["inner", "outer"]
    assert len({bench.flow_run_id(run) for run in bench.run_directories()}) == 2


def test_subflows_of_one_flow_run_side_by_side(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def inner(name: str, other: str) -> bool:
        # Each waits for a file of the other: one after the other would never end.
        command = f"touch {name}; until test -e {other}; do sleep 0.02; done"
        return run_job(job(name, command, timeout_s=20)).passed

    @task
    def call(name: str, other: str) -> bool:
        return inner(name, other)

    @flow(task_runner=LocalTaskRunner())
    def outer() -> list[bool]:
        futures = [call.submit("p", "q"), call.submit("q", "p")]
        return [future.result() for future in futures]

    assert outer() == [True, True]
    names = [bench.run_file(run)["name"] for run in bench.run_directories()]
    assert sorted(names) == ["inner", "inner-2"]


def test_an_async_flow_awaits_jobs_without_keeping_its_loop(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    async def asynchronous() -> tuple[bool, bool, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.02)

        ticking = asyncio.create_task(tick())
        future = run_job.submit(job("slow", "sleep 0.5"))
        await future.wait_async(timeout=0.01)
        early = future.state.is_final()
        result = await future.result_async()
        ticking.cancel()
        return early, result.passed, ticks

    early, passed, ticks = run_async(asynchronous())
    assert (early, passed) == (False, True)
    assert ticks > 5


def test_an_async_flow_waits_for_jobs_that_it_did_not_await(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    async def asynchronous() -> None:
        run_job.submit(job("late", "sleep 0.3; touch $HOLDFAST_JOB_DIR/done"))

    run_async(asynchronous())
    assert (bench.only_run() / "jobs" / "late" / "done").exists()
    assert bench.state() == ("COMPLETED", "Completed")


def test_an_async_flow_fails_for_a_failed_job_that_nobody_looked_at(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    async def asynchronous() -> None:
        run_job.submit(job("fails", "exit 4"))

    with pytest.raises(UnseenFailureError, match="nobody asked for the result"):
        run_async(asynchronous())
    assert bench.state() == ("FAILED", "Failed")


def test_async_plain_tasks_and_jobs_wait_for_each_other(bench: FlowBench) -> None:
    @task
    async def wait_for_it(result: JobResult) -> JobSpec:
        await asyncio.sleep(0)
        return job(f"after-{result.id}")

    @flow(task_runner=LocalTaskRunner())
    async def asynchronous() -> str:
        first = run_job.submit(job("first"))
        second = run_job.submit(wait_for_it.submit(first))
        return (await second.result_async()).id

    assert run_async(asynchronous()) == "after-first"


# -- futures ---------------------------------------------------------------------------------


def test_a_failed_jobs_future_raises_with_the_cause_and_tells_it_in_its_state(
    bench: FlowBench,
) -> None:
    @flow(task_runner=LocalTaskRunner())
    def fails() -> None:
        future = run_job.submit(job("sad", "echo why; exit 7"))
        with pytest.raises(JobFailedError) as caught:
            future.result()
        result = caught.value.result
        assert (result.exit_code, result.status) == (7, JobStatus.FAILED)
        assert result.cause is not None
        assert result.cause.kind is CauseKind.EXIT_CODE
        assert str(result.log) in str(caught.value)
        returned = future.result(raise_on_failure=False)
        assert isinstance(returned, JobFailedError)
        state = future.state
        assert (state.type.value, state.name) == ("FAILED", "Failed")
        assert "exit_code" in str(state.message)
        assert state.state_details.task_run_id == future.task_run_id

    assert fails(return_state=True).is_completed()


@pytest.mark.parametrize(
    ("fields", "kind", "name"),
    [
        ({"command": "true"}, "COMPLETED", "Completed"),
        ({"command": "exit 1"}, "FAILED", "Failed"),
        ({"command": "sleep 60", "timeout_s": 0.2}, "FAILED", "TimedOut"),
        ({"command": ["/nowhere/to/be/found"]}, "FAILED", "Failed"),
        ({"command": "echo no", "pass_patterns": ["yes"]}, "FAILED", "Failed"),
    ],
)
def test_the_future_and_the_task_run_name_the_same_state(
    bench: FlowBench, fields: dict[str, object], kind: str, name: str
) -> None:
    @flow(task_runner=LocalTaskRunner())
    def one() -> tuple[str, str | None]:
        future = run_job.submit(JobSpec.model_validate({"id": "one", **fields}))
        future.wait()
        return future.state.type.value, future.state.name

    assert one() == (kind, name)
    assert bench.task_runs("one")["one"]["state_name"] == name


def test_a_future_tells_what_the_job_is_doing(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner(max_parallel=1))
    def states() -> None:
        first = run_job.submit(job("first", "until test -e go; do sleep 0.02; done"))
        second = run_job.submit(job("second"))
        third = run_job.submit(job("third"), wait_for=[first])
        wait_until(lambda: first.state.name == "Running")
        wait_until(lambda: second.state.name == "Queued")
        assert third.state.name == "Pending"
        with pytest.raises(TimeoutError, match=r'job "first" did not end within 0\.01 s'):
            first.result(timeout=0.01)
        Path("go").touch()
        assert third.result().passed
        assert first.state.is_completed()

    states()


def wait_until(condition: object) -> None:
    from support.waiting import wait_for

    wait_for(condition, "a state of a job")  # type: ignore[arg-type]


def test_callbacks_are_called_once_and_may_wait_for_other_jobs(bench: FlowBench) -> None:
    seen: list[str] = []

    @flow(task_runner=LocalTaskRunner())
    def calling_back() -> None:
        a = run_job.submit(job("a", "sleep 0.2"))
        b = run_job.submit(job("b", "sleep 0.4"))
        a.add_done_callback(lambda future: seen.append(f"a then {b.result().id}"))
        a.add_done_callback(lambda future: 1 / 0)
        b.result()
        a.result()
        wait_until(lambda: seen)
        a.add_done_callback(lambda future: seen.append("at once"))
        assert seen[-1] == "at once"

    calling_back()
    assert seen == ["a then b", "at once"]


def test_prefects_own_wait_and_as_completed_take_jobs_and_tasks_alike(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def waiting() -> list[object]:
        slow = run_job.submit(job("slow", "until test -e go; do sleep 0.02; done"))
        quick = run_job.submit(job("quick"))
        plain = double.submit(4)
        done, not_done = wait([slow, quick, plain], timeout=3)
        assert (slow in not_done, quick in done, plain in done) == (True, True, True)
        Path("go").touch()
        return sorted(str(getattr(f.result(), "id", 8)) for f in as_completed([slow, quick, plain]))

    assert waiting() == ["8", "quick", "slow"]


def test_returned_futures_decide_on_the_flows_state_as_prefect_does(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def returns(command: str) -> list[object]:
        return [run_job.submit(job("a")), run_job.submit(job("b", command)), double.submit(2)]

    assert returns("true", return_state=True).is_completed()
    state = returns("exit 1", return_state=True)
    assert state.is_failed()
    assert state.message == "1/3 states failed."


# -- a task nobody awaited never reads as passed ---------------------------------------------


def test_a_failed_job_that_nobody_looked_at_fails_the_flow(bench: FlowBench) -> None:
    """Sabotage: flows/flow_jobs.py: raise UnseenFailureError(failures) -> return"""

    @flow(task_runner=LocalTaskRunner())
    def careless() -> str:
        run_job.submit(job("good"))
        run_job.submit(job("bad", "exit 5"))
        return "done"

    with pytest.raises(UnseenFailureError, match=r'nobody asked for the result.*job "bad" failed'):
        careless()
    assert bench.state() == ("FAILED", "Failed")
    assert bench.run_file()["status"] == "failed"
    names = bench.server.client.get(
        "/flow_run_states/", params={"flow_run_id": bench.flow_run_id()}
    )
    assert "Completed" not in [state["name"] for state in names.json()]


def test_a_flow_is_not_completed_before_its_last_job(bench: FlowBench) -> None:
    """Sabotage: flows/task_runners.py: guard_final_states(context.client, flow_run.id, jobs) -> pass"""  # noqa: E501
    seen: list[tuple[str, str]] = []

    @flow(task_runner=LocalTaskRunner())
    def careless() -> None:
        run_job.submit(job("slow", "sleep 0.5")).add_done_callback(
            lambda future: seen.append(bench.state())
        )

    careless()
    assert seen == [("RUNNING", "Running")]
    assert bench.state() == ("COMPLETED", "Completed")


def test_waiting_for_a_job_without_asking_how_it_ended_is_not_looking(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def careless() -> None:
        run_job.submit(job("bad", "exit 5")).wait()

    assert careless(return_state=True).is_failed()


def test_a_failure_that_the_flow_has_dealt_with_does_not_fail_it(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def careful() -> str:
        bad = run_job.submit(job("bad", "exit 5"))
        after = run_job.submit(job("after"), wait_for=[bad])
        try:
            after.result()
        except JobFailedError:
            return run_job(job("instead")).id
        return ""

    assert careful() == "instead"
    assert bench.state() == ("COMPLETED", "Completed")
    assert bench.run_file()["status"] == "completed", "list and Prefect agree"
    assert bench.run_file()["counts"]["failed"] == 1


def test_a_failed_plain_task_that_nobody_looked_at_fails_the_flow(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def careless() -> None:
        break_down.submit()

    with pytest.raises(UnseenFailureError, match='task "break_down" ended in state Failed'):
        careless()


def test_a_plain_task_that_nobody_awaited_runs_to_its_end(bench: FlowBench, tmp_path: Path) -> None:
    @task
    def slow() -> None:
        import time

        time.sleep(0.3)
        (tmp_path / "done").touch()

    @flow(task_runner=LocalTaskRunner(max_threads=1))
    def careless() -> None:
        double.submit(1)
        slow.submit()
        double.submit(2)

    careless()
    assert (tmp_path / "done").exists()


def test_a_plain_task_that_was_not_run_for_a_failed_job_has_not_looked_at_it(
    bench: FlowBench,
) -> None:
    @flow(task_runner=LocalTaskRunner())
    def careless() -> None:
        failed = run_job.submit(job("a", "exit 1"))
        assert exit_code_of(failed) is None, "what Prefect answers for a task that was not run"

    with pytest.raises(UnseenFailureError, match='job "a" failed'):
        careless()


def test_an_exception_of_the_flow_itself_is_what_the_caller_gets(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def raises() -> None:
        run_job.submit(job("bad", "exit 1"))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        raises()
    assert bench.state() == ("FAILED", "Failed")


# -- the page --------------------------------------------------------------------------------


def test_the_flow_on_the_page_runs(bench: FlowBench) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-flow.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, str(page), "exec"), names)

    assert len(names["nightly"]()) == 2
    assert bench.statuses() == dict.fromkeys(["build", "test-6", "test-7"], "passed")

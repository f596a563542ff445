"""What this project expects of Prefect beyond its promises, one test for each expectation.

A new version of Prefect that breaks one of them fails here first, and the test's name says what
has to be looked at in ``flows/prefect_private.py``.
"""

from __future__ import annotations

import ast
import inspect
import signal
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectTaskRunFuture, as_completed, wait
from prefect.server.api.server import SubprocessASGIServer
from prefect.states import Cancelled, Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import allow_failure
from prefect.utilities.timeout import timeout
from support.flow_runs import FlowBench, bench, run_async

from flows import prefect_private
from flows.prefect_private import (
    FutureWithFinalState,
    asks_for_a_task_that_will_not_run,
    exception_of,
    guard_final_states,
    is_timeout,
    own_server_pid,
    supervisor_decides,
    was_looked_at,
)

__all__ = ["bench"]

ROOT = Path(prefect_private.__file__).parents[1]


def test_no_other_file_uses_private_names_of_prefect() -> None:
    found = []
    for room in ("tasks", "backends", "observers", "flows"):
        for path in (ROOT / room).rglob("*.py"):
            if path.name == "prefect_private.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prefect"):
                    names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
                    if any(name.startswith("_") for name in names):
                        found.append(f"{path.relative_to(ROOT)}: {ast.unparse(node)}")
    assert found == []


class Ended(FutureWithFinalState[int]):
    """A future that has ended."""

    def __init__(self, state: State[int]) -> None:
        super().__init__()
        self.read = 0
        self._ended = state

    def final_state(self) -> State[int]:
        self.read += 1
        return self._ended

    @property
    def task_run_id(self) -> UUID:
        return uuid4()

    @property
    def state(self) -> State[int]:
        return self._ended

    def wait(self, timeout: float | None = None) -> None:
        """It has ended."""

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> int:
        return 1

    def add_done_callback(self, fn: Any) -> None:
        pytest.fail("an ended future needs no callback")


def test_prefects_wait_and_as_completed_read_the_final_state() -> None:
    future = Ended(Completed())
    assert wait([future]).done == {future}
    assert list(as_completed([future])) == [future]
    assert future.read >= 2
    assert "_final_state" in inspect.getsource(PrefectTaskRunFuture.__init__)


@pytest.mark.prefect
def test_a_future_of_prefects_own_remembers_that_it_was_looked_at(bench: FlowBench) -> None:
    @task
    def one() -> int:
        return 1

    @flow
    def native() -> tuple[bool, int, bool]:
        future = one.submit()
        future.wrapped_future.result()
        return was_looked_at(future), future.result(), was_looked_at(future)

    assert native() == (False, 1, True)


def test_no_supervisor_decides_where_there_is_none() -> None:
    assert supervisor_decides() is False


def test_prefects_supervisor_has_the_intents_that_leave_the_state_to_it() -> None:
    from prefect import flow_engine

    owned = flow_engine._SUPERVISOR_OWNED_INTENTS
    assert owned == {"reschedule", "relinquish"}, "flows.prefect_private.supervisor_decides"


def test_prefect_throws_its_own_cancelled_error_when_a_flows_time_is_over() -> None:
    import time

    caught: list[BaseException] = []

    def work() -> None:
        try:
            with timeout(0.05):
                for _ in range(2000):
                    time.sleep(0.005)
        except BaseException as error:
            caught.append(error.__context__ or error)

    # In another thread: pytest's own time limit has the alarm of this one.
    import threading

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert is_timeout(caught[0])
    assert not is_timeout(KeyboardInterrupt())


@pytest.mark.prefect
def test_a_state_of_a_flow_that_raised_holds_the_exception(bench: FlowBench) -> None:
    error = ValueError("mine")
    states: list[State[Any]] = []

    class Keeper:
        def before(self, state: State[Any]) -> State[Any] | None:
            states.append(state)
            return None

    @flow
    def raises(error: Exception) -> None:
        guard(Keeper())
        raise error

    @flow
    def returns() -> int:
        guard(Keeper())
        return 3

    raises(error, return_state=True)
    returns()
    assert [exception_of(state) for state in states] == [error, None]
    assert [state.is_final() for state in states] == [True, True]


def guard(keeper: Any) -> None:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    guard_final_states(context.client, context.flow_run.id, keeper)


@pytest.mark.prefect
def test_the_engine_asks_before_a_flow_run_is_completed(bench: FlowBench) -> None:
    seen: list[str | None] = []

    class Keeper:
        def before(self, state: State[Any]) -> State[Any] | None:
            context = FlowRunContext.get()
            assert context is not None
            assert context.flow_run is not None
            seen.append(state.name)
            seen.append(bench.server.flow_run_state(str(context.flow_run.id))[1])
            return None

    @flow
    def completes() -> None:
        guard(Keeper())

    completes()
    assert seen == ["Completed", "Running"]


@pytest.mark.prefect
def test_the_engine_takes_what_the_keeper_raises_for_the_flows_own_error(bench: FlowBench) -> None:
    class Keeper:
        def before(self, state: State[Any]) -> State[Any] | None:
            if state.is_completed():
                raise ValueError("not so fast")
            return None

    @flow
    def completes() -> None:
        guard(Keeper())

    state = completes(return_state=True)
    assert (state.is_failed(), "not so fast" in str(state.message)) == (True, True)


@pytest.mark.prefect
def test_the_engine_takes_another_state_than_it_proposed(bench: FlowBench) -> None:
    class Keeper:
        def before(self, state: State[Any]) -> State[Any] | None:
            return Cancelled(message="no")

    @flow
    def completes() -> None:
        guard(Keeper())

    assert completes(return_state=True).is_cancelled()


@pytest.mark.prefect
def test_the_engine_of_async_flows_asks_too(bench: FlowBench) -> None:
    seen: list[str | None] = []

    class Keeper:
        async def before_async(self, state: State[Any]) -> State[Any] | None:
            seen.append(state.name)
            return None

    @flow
    async def completes() -> None:
        guard(Keeper())

    run_async(completes())
    assert seen == ["Completed"]


@pytest.mark.prefect
def test_the_engine_asks_for_each_flow_run_its_own_keeper(bench: FlowBench) -> None:
    seen: list[str] = []

    class Keeper:
        def __init__(self, name: str) -> None:
            self.name = name

        def before(self, state: State[Any]) -> State[Any] | None:
            seen.append(self.name)
            return None

    @flow
    def inner() -> None:
        guard(Keeper("inner"))

    @flow
    def outer() -> None:
        guard(Keeper("outer"))
        inner()

    outer()
    assert seen == ["inner", "outer"]


@pytest.mark.prefect
def test_the_engine_enters_a_duplicate_and_leaves_it_with_the_signal(bench: FlowBench) -> None:
    calls: list[str] = []

    class Spy(ThreadPoolTaskRunner[Any]):
        def duplicate(self) -> Spy:
            calls.append("duplicate")
            return Spy()

        def cancel_all(self) -> None:
            calls.append("cancel_all of the original" if self is original else "of the duplicate")
            super().cancel_all()

        def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
            calls.append(f"left with {getattr(kind, '__name__', None)}")
            super().__exit__(kind, error, traceback)

    original = Spy()

    @flow(task_runner=original)
    def is_terminated() -> None:
        signal.raise_signal(signal.SIGTERM)

    previous = signal.signal(signal.SIGTERM, lambda *_: calls.append("the handler before"))
    try:
        with pytest.raises(TerminationSignal):
            is_terminated()
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert calls == [
        "duplicate",
        "left with TerminationSignal",
        "of the duplicate",
        "cancel_all of the original",
        "the handler before",
    ]


@pytest.mark.prefect
def test_a_task_that_is_not_run_for_its_input_is_told_from_one_that_may_fail(
    bench: FlowBench,
) -> None:
    asked: list[bool] = []

    class Failed(Ended):
        @property
        def state(self) -> State[int]:
            asked.append(asks_for_a_task_that_will_not_run())
            return self._ended

    @task
    def consume(value: object) -> None:
        """Takes anything."""

    @flow
    def consumes() -> None:
        from prefect.states import Failed as FailedState

        future = Failed(FailedState(data=ValueError("x")))
        assert future.state.is_failed()
        consume(allow_failure(future))
        del asked[:]
        consume(future)

    consumes()
    assert True in asked


def test_prefects_map_hands_dependencies_to_submit() -> None:
    assert "dependencies" in inspect.signature(TaskRunner.submit).parameters
    assert "dependencies=task_inputs" in inspect.getsource(TaskRunner.map)


def test_the_server_that_prefect_started_for_this_process_is_found() -> None:
    assert own_server_pid() is None
    server = SubprocessASGIServer(port=1)
    server.server_process = subprocess.Popen(["sleep", "60"])
    try:
        assert own_server_pid() == server.server_process.pid
    finally:
        server.stop()
    assert own_server_pid() is None

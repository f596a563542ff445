"""Flows of one's own that are stopped: by signals, in Prefect, from a terminal, by kill -9.

Each flow runs in a process of its own, as a person runs it.  Its job is a tree of three sleepers,
one of them in a session of its own, found by the path of their program, which no process can
shed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.flow_runs import FlowBench, bench
from support.waiting import wait_for

__all__ = ["bench"]

pytestmark = pytest.mark.prefect

SCRIPT = """
import asyncio, sys, time
from prefect import flow
from flows import JobSpec, LocalTaskRunner, run_job

sleeper, how, trap = sys.argv[1:4]
tree = JobSpec(
    id="tree",
    command=f"{trap} {sleeper} 300 & setsid {sleeper} 300 & {sleeper} 300",
    grace_s=30 if trap else 2,
)

def hook(flow, flow_run, state):
    print(f"hook sees {state.name}", flush=True)

async def async_hook(flow, flow_run, state):
    print(f"async hook sees {state.name}", flush=True)

@flow(task_runner=LocalTaskRunner(), on_cancellation=[hook, async_hook])
def waits():
    return run_job(tree).id

@flow(task_runner=LocalTaskRunner())
def does_not_wait():
    run_job.submit(tree)

@flow(task_runner=LocalTaskRunner())
def swallows():
    try:
        run_job(tree)
    except BaseException as error:
        print("swallowed", type(error).__name__, flush=True)
    return "all is well"

@flow(task_runner=LocalTaskRunner())
def sleeps():
    run_job.submit(tree)
    time.sleep(300)

@flow(task_runner=LocalTaskRunner(), on_cancellation=[hook, async_hook])
async def awaits():
    return (await run_job.submit(tree).result_async()).id

@flow(task_runner=LocalTaskRunner())
async def blocks():
    return run_job(tree).id

@flow(task_runner=LocalTaskRunner())
def subflow():
    return waits()

flow_run = globals()[how]
answer = flow_run() if not flow_run.isasync else asyncio.run(flow_run())
print(f"the flow says: {answer}", flush=True)
"""

TREE_SIZE = 3
IGNORE_SIGTERM = "trap '' TERM;"


@dataclass
class RunningFlow:
    """A flow in a process of its own, and the sleepers of its job."""

    bench: FlowBench
    place: Path
    sleeper: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, how: str, trap: str = "") -> subprocess.Popen[str]:
        """Start the flow and return when its whole tree is there."""
        process = subprocess.Popen(
            [sys.executable, "flow.py", str(self.sleeper), how, trap],
            cwd=self.place,
            env=self.bench.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        self.wait_for_tree(process)
        return process

    def wait_for_tree(self, process: subprocess.Popen[str] | None = None) -> None:
        def there() -> bool:
            if process is not None and process.poll() is not None:
                pytest.fail(f"the flow ended early:\n{process.communicate()[0]}")
            return len(self.alive()) == TREE_SIZE

        wait_for(there, "the job's tree", timeout_s=60)

    def alive(self) -> list[int]:
        """Return the processes whose program is this test's own sleeper."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if Path(os.readlink(entry / "exe")) == self.sleeper:
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def end(self, process: subprocess.Popen[str], timeout_s: float = 40) -> str:
        """Wait until the flow's process has ended; return what it printed."""
        return process.communicate(timeout=timeout_s)[0]

    def the_run(self) -> Path:
        return self.bench.run_directories()[-1]

    def assert_nothing_is_left(self) -> None:
        assert self.alive() == []

    def assert_cancelled(self, by: str) -> None:
        """Prefect, run.json and the journal agree on what happened."""
        run = self.the_run()
        assert self.bench.state(run) == ("CANCELLED", "Cancelled")
        assert self.bench.run_file(run)["status"] == "cancelled"
        tree = self.bench.jobs(run)["tree"]
        assert (tree["status"], tree["cause"]["kind"]) == ("killed", "cancelled")
        assert by in (run / "events.jsonl").read_text()


@pytest.fixture
def running(bench: FlowBench, tmp_path: Path) -> Iterator[RunningFlow]:
    program = shutil.which("sleep")
    assert program is not None
    sleeper = tmp_path / "sleeper"
    shutil.copy(program, sleeper)
    (tmp_path / "flow.py").write_text(SCRIPT)
    flow = RunningFlow(bench, tmp_path, sleeper)
    yield flow
    for process in flow.processes:
        if process.poll() is None:
            process.kill()
            process.communicate()
    for pid in flow.alive():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["waits", "does_not_wait", "sleeps", "awaits", "blocks"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_whole_tree_and_the_flow_run_reads_cancelled(
    running: RunningFlow, how: str, number: signal.Signals
) -> None:
    """Sabotage: flows/task_runners.py: self._jobs.leave(exc_value) -> pass"""
    process = running.start(how)
    started = time.monotonic()
    process.send_signal(number)
    output = running.end(process)

    running.assert_nothing_is_left()
    assert time.monotonic() - started < 15
    assert process.returncode != 0, output
    running.assert_cancelled("asyncio" if "asyncio" in events(running) else number.name)
    assert "the flow says: tree" not in output
    if how in ("waits", "awaits"):
        assert "\nhook sees Cancelled\n" in output, output
        assert "async hook sees Cancelled" in output, output


def events(running: RunningFlow) -> str:
    return (running.the_run() / "events.jsonl").read_text()


def test_a_second_sigint_kills_at_once(running: RunningFlow) -> None:
    """Sabotage: flows/flow_end.py: grace_s=0.0 -> grace_s=None"""
    process = running.start("waits", IGNORE_SIGTERM)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: "kill_requested" in events(running), "the first stop")
    assert len(running.alive()) == TREE_SIZE, "they ignore SIGTERM for their 30 s"
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    running.end(process)

    running.assert_nothing_is_left()
    assert time.monotonic() - started < 15
    running.assert_cancelled("SIGINT came again")


def test_a_signal_ends_the_jobs_of_a_subflow(running: RunningFlow) -> None:
    process = running.start("subflow")
    process.send_signal(signal.SIGTERM)
    running.end(process)

    running.assert_nothing_is_left()
    running.assert_cancelled("SIGTERM")


@pytest.mark.parametrize("how", ["waits", "does_not_wait", "swallows", "awaits"])
def test_a_cancel_in_prefect_reaches_a_flow_that_no_worker_started(
    running: RunningFlow, how: str
) -> None:
    """Sabotage: flows/flow_run_session.py: if state is not None: -> if False:"""
    process = running.start(how)
    started = time.monotonic()
    set_state(running.bench, running.bench.flow_run_id(), "CANCELLING")
    wait_for(lambda: not running.alive(), "the end of the tree")
    assert time.monotonic() - started < 10
    output = running.end(process)

    running.assert_cancelled("cancelled in Prefect")
    assert ("the flow says: all is well" in output) == (how == "swallows")


def test_a_cancel_is_not_undone_by_a_flow_that_goes_on(running: RunningFlow) -> None:
    """Sabotage: flows/flow_end.py: if self.cancelled:\\n            self._force() -> if False:\\n            self._force()"""  # noqa: E501
    process = running.start("sleeps")
    set_state(running.bench, running.bench.flow_run_id(), "CANCELLING")
    wait_for(
        lambda: running.bench.state() == ("CANCELLED", "Cancelled"),
        "the state, while the flow's function sleeps on",
    )
    running.assert_nothing_is_left()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    running.end(process)
    running.assert_cancelled("cancelled in Prefect")


def test_a_cancel_from_another_terminal(running: RunningFlow) -> None:
    process = running.start("swallows")
    cancel = subprocess.run(
        [sys.executable, "-m", "flows.run", "cancel", running.the_run().name],
        env=running.bench.environment,
        cwd=running.place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert cancel.returncode == 0, cancel.stdout + cancel.stderr
    output = running.end(process)

    running.assert_nothing_is_left()
    running.assert_cancelled("cancel")
    assert "swallowed JobFailedError" in output
    assert "the flow says: all is well" in output


def test_kill_9_of_the_flow_leaves_nothing_and_the_flow_run_reads_crashed(
    running: RunningFlow,
) -> None:
    process = running.start("waits")
    process.kill()
    running.end(process)
    wait_for(lambda: not running.alive(), "the end of the tree")

    def settled() -> bool:
        return running.bench.run_file()["status"] == "crashed"

    wait_for(settled, "the run to be settled", timeout_s=40)
    wait_for(lambda: running.bench.state() == ("CRASHED", "Crashed"), "Crashed in Prefect")


def test_a_run_after_a_stop_starts_at_once(running: RunningFlow) -> None:
    process = running.start("waits")
    process.send_signal(signal.SIGTERM)
    running.end(process)
    again = running.start("waits")
    again.send_signal(signal.SIGINT)
    running.end(again)
    assert len(running.bench.run_directories()) == 2
    running.assert_nothing_is_left()


SERVE = """
import sys
from prefect import flow
from flows import JobSpec, LocalTaskRunner, run_job

@flow(task_runner=LocalTaskRunner())
def served(sleeper: str, trap: str = ""):
    command = f"{trap} {sleeper} 300 & setsid {sleeper} 300 & {sleeper} 300"
    return run_job(JobSpec(id="tree", command=command, grace_s=2)).id

if __name__ == "__main__":
    served.serve(name="served", print_starting_message=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("trap", ["", IGNORE_SIGTERM], ids=["obeys", "ignores-sigterm"])
def test_a_cancel_in_prefect_of_a_served_flow(running: RunningFlow, trap: str) -> None:
    (running.place / "served.py").write_text(SERVE)
    with (running.place / "served.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "served.py"],
            cwd=running.place,
            env={**running.bench.environment, "PREFECT_RUNNER_POLL_FREQUENCY": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    running.processes.append(server)
    client = running.bench.server.client
    try:
        deployment = wait_for(
            lambda: found(client.get("/deployments/name/served/served")), "it", timeout_s=60
        )
        body = {"parameters": {"sleeper": str(running.sleeper), "trap": trap}}
        created = client.post(f"/deployments/{deployment['id']}/create_flow_run", json=body)
        flow_run_id = created.raise_for_status().json()["id"]
        running.wait_for_tree()
        started = time.monotonic()
        set_state(running.bench, flow_run_id, "CANCELLING")
        wait_for(lambda: not running.alive(), "the end of the tree", timeout_s=30)
        gone_s = time.monotonic() - started
        wait_for(lambda: running.bench.state() == ("CANCELLED", "Cancelled"), "the state")
        cancelled_s = time.monotonic() - started
        print(f"tree gone after {gone_s:.1f} s, Cancelled after {cancelled_s:.1f} s")
        running.assert_cancelled("SIGTERM" if "SIGTERM" in events(running) else "Prefect")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def found(response: Any) -> dict[str, Any] | None:
    return response.json() if response.status_code == 200 else None


def set_state(bench: FlowBench, flow_run_id: str, kind: str) -> None:
    """Do what the Cancel button of the UI does."""
    state = {"type": kind, "name": kind.title()}
    answer = bench.server.client.post(
        f"/flow_runs/{flow_run_id}/set_state", json={"state": state, "force": False}
    )
    answer.raise_for_status()

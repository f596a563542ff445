"""The three ways in which a run gets under Prefect: a terminal, a script, a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from support.command_line import CommandLine, RunOnDisk
from support.hard_programs import HardProgram, Marked
from support.prefect_server import PrefectServer
from support.waiting import wait_for

ROOT = Path(__file__).parents[2]
POOL = "holdfast"  # as in prefect.yaml
START_S = 60.0
"""A worker polls, makes a process, which imports Prefect: 10 s on an idle machine."""

SCRIPT = """
import sys, time
from prefect import flow
from flows import JobSpec, LocalTaskRunner, run_job
from observers.base import Observer

program, mode, argument, grace_s, what = sys.argv[1:6]
hard = JobSpec(id="hard", command=[program, mode, argument], grace_s=float(grace_s))

class Breaks(Observer):
    name = "breaks"
    essential = what == "essential-observer"
    def jobs_changed(self, events):
        if any(event.after.value == "running" for event in events):
            self.wait_for_tree()
            raise RuntimeError("an observer broke")
    def wait_for_tree(self):
        while not sys.stdin.readline():
            time.sleep(0.01)

observers = [Breaks()] if what.endswith("observer") else []

@flow(
    name="my-flow",
    task_runner=LocalTaskRunner(observers=observers),
    timeout_seconds=float(sys.argv[6]) if what == "timeout" else None,
)
def my_flow():
    future = run_job.submit(hard)
    if what == "raise":
        sys.stdin.readline()  # whoever started this has seen the whole tree
        raise RuntimeError("the flow raised")
    return future.result().id

my_flow()
"""


FLOW_CALL = """
import sys
from flows.job_dag import job_dag
job_dag(sys.argv[1])
"""

OWN_OBSERVER = """
import sys
from pathlib import Path
from flows.graph_run import settings_for
from flows.run_settings import RunSettings
from flows.started import run_from_terminal
from observers.base import Observer
from tasks.dag_file import read_dag_file

class Breaks(Observer):
    name = "breaks"
    essential = True
    def jobs_changed(self, events):
        if any(event.after.value == "running" for event in events):
            sys.stdin.readline()
            raise RuntimeError("an observer broke")

graph = read_dag_file(sys.argv[1])
settings = settings_for(graph, RunSettings(name="", runs=Path("runs").absolute(), progress=False))
given = {"file": sys.argv[1]}
summary = run_from_terminal("job-dag", settings, graph.jobs, given, observers=[Breaks()])
sys.exit(summary.exit_code)
"""


@dataclass
class Hard:
    """A hard program as the one job of a run, and how much grace it has."""

    marked: Marked
    program: HardProgram
    grace_s: float

    @property
    def job(self) -> dict[str, Any]:
        command = [str(self.marked.path), self.program.mode, self.program.argument]
        return {"id": "hard", "command": command, "grace_s": self.grace_s}


@dataclass
class UnderPrefect:
    """A run that goes on, with its whole tree, and its flow run."""

    server: PrefectServer
    run: RunOnDisk
    hard: Hard
    process: subprocess.Popen[str] | None = None
    """What was started; a worker's flow process is not ours."""

    @property
    def flow_run_id(self) -> str:
        return str(self.run.file()["flow_run_id"])

    @property
    def driver_pid(self) -> int:
        driver = self.run.file()["driver"]
        assert isinstance(driver, dict)
        return int(driver["pid"])

    @property
    def keeper_pid(self) -> int:
        return int(json.loads((self.run.directory / ".keeper.json").read_text())["pid"])

    def state(self) -> str:
        return self.server.flow_run_state(self.flow_run_id)[0]

    def cancel_in_the_ui(self) -> None:
        """Send what the button in Prefect's page sends."""
        self.server.ask(
            "POST",
            f"/flow_runs/{self.flow_run_id}/set_state",
            json={"state": {"type": "CANCELLING", "name": "Cancelling"}},
        )

    def family(self) -> list[psutil.Process]:
        """The driver, its keeper and what descends from them: server, jobs, helpers."""
        found: dict[int, psutil.Process] = {}
        for pid in (self.driver_pid, self.keeper_pid):
            process = psutil.Process(pid)
            for each in (process, *process.children(recursive=True)):
                found[each.pid] = each
        return list(found.values())


@dataclass
class Starter:
    """Starts runs of one hard job, in a folder of its own."""

    cli: CommandLine
    server: PrefectServer
    started: list[UnderPrefect] = field(default_factory=list)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def terminal(self, hard: Hard, *options: str) -> UnderPrefect:
        """``python -m flows.run jobs``."""
        file = self._graph_file(hard)
        process = self.cli.start("jobs", file, "-q", *options)
        return self._wait_for_tree(hard, process)

    def script(self, hard: Hard, what: str = "", *arguments: str) -> UnderPrefect:
        """``python my_flow.py`` with a task runner of ours."""
        return self._python(SCRIPT, hard, *hard.job["command"], str(hard.grace_s), what, *arguments)

    def flow_call(self, hard: Hard) -> UnderPrefect:
        """A call of the flow ``job_dag`` in a program of one's own."""
        return self._python(FLOW_CALL, hard, str(self._graph_file(hard)))

    def own_observer(self, hard: Hard) -> UnderPrefect:
        """A run as the command line starts it, with an essential observer that breaks."""
        return self._python(OWN_OBSERVER, hard, str(self._graph_file(hard)))

    def worker(self, hard: Hard) -> UnderPrefect:
        """A run of the deployment, which a process worker takes up."""
        deployment = self.server.ask("GET", "/deployments/name/job-dag/job-dag")["id"]
        environment = {
            "HOLDFAST_RUNS": str(self.cli.runs),
            "XDG_STATE_HOME": self.cli.environment["XDG_STATE_HOME"],
        }
        self.server.ask(
            "POST",
            f"/deployments/{deployment}/create_flow_run",
            json={
                "parameters": {"file": str(self._graph_file(hard))},
                "job_variables": {"env": environment, "working_dir": str(ROOT)},
            },
        )
        return self._wait_for_tree(hard, None)

    def end(self) -> None:
        """Kill the drivers that a failed test left behind; their keepers do the rest."""
        for each in self.started:
            identity = each.run.file().get("driver")
            if isinstance(identity, dict) and each.run.file().get("ended_at") is None:
                kill(int(identity["pid"]))
        for process in self.processes:
            process.kill()
            process.communicate()

    def _python(self, code: str, hard: Hard, *arguments: str) -> UnderPrefect:
        process = subprocess.Popen(
            [sys.executable, self.cli.write("my_flow.py", code), *arguments],
            cwd=self.cli.place,
            env=self.cli.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return self._wait_for_tree(hard, process)

    def _graph_file(self, hard: Hard) -> Path:
        self.cli.runs.mkdir(exist_ok=True)
        return self.cli.write("hard.json", json.dumps({"name": "hard", "jobs": [hard.job]}))

    def _wait_for_tree(self, hard: Hard, process: subprocess.Popen[str] | None) -> UnderPrefect:
        if process is not None:
            self.processes.append(process)

        def there() -> bool:
            if process is not None and process.poll() is not None:
                raise AssertionError(f"the run ended early:\n{process.communicate()}")
            return len(hard.marked.pids()) >= hard.program.processes

        wait_for(there, "the whole tree", START_S)
        under = UnderPrefect(self.server, self.cli.only_run(), hard, process)
        wait_for(lambda: under.run.file().get("flow_run_id"), "a flow run", START_S)
        self.started.append(under)
        return under


STARTS: dict[str, Callable[[Starter, Hard], UnderPrefect]] = {
    "worker": Starter.worker,
    "script": Starter.script,
    "terminal": Starter.terminal,
}

OWN_SERVER_STARTS: dict[str, Callable[[Starter, Hard], UnderPrefect]] = {
    "terminal": Starter.terminal,
    "script": Starter.script,
    "flow-call": Starter.flow_call,
}


def deploy(server: PrefectServer, runs: Path) -> None:
    """Make the pool and the deployment ``job-dag`` as prefect.yaml says."""
    environment = worker_environment(server, runs)
    for arguments in (
        ("work-pool", "create", POOL, "--type", "process", "--overwrite"),
        ("--no-prompt", "deploy", "--name", "job-dag"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done


@contextmanager
def worker(server: PrefectServer, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process worker on the pool; at the end it is stopped, or gone already."""
    with (place / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "prefect", "worker", "start"),
                *("--pool", POOL, "--type", "process"),
            ],
            cwd=place,
            env=worker_environment(server, place / "runs"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def worker_environment(server: PrefectServer, runs: Path) -> dict[str, str]:
    """Return the environment of a worker, which its flow processes inherit."""
    return {
        **server.environment,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "HOLDFAST_HOME": str(ROOT),
        "HOLDFAST_RUNS": str(runs),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }


def kill(pid: int) -> None:
    """Send SIGKILL to a process, unless it has gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def seconds_until(
    condition: Callable[[], object], what: str, begin: float, limit_s: float
) -> float:
    """Wait for the condition; return how long after ``begin`` it came."""
    wait_for(condition, what, max(0.1, begin + limit_s - time.monotonic()))
    took_s = time.monotonic() - begin
    print(f"{what}: {took_s:.2f} s")
    return took_s

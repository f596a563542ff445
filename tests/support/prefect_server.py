"""A real Prefect server on loopback, gone when the tests end."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

UP_S = 90.0
"""The first start on an empty home migrates a database: 10 s on two idle cores."""

STOP_S = 10.0
BUSY_S = 30.0
POLL_S = 0.05


class PrefectServer:
    """One server process with a home of its own; it may be stopped and started again."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.port = _free_port()
        self.api_url = f"http://127.0.0.1:{self.port}/api"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=self.api_url, timeout=60, trust_env=False)

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.home / "server.log"

    @property
    def environment(self) -> dict[str, str]:
        """The environment for processes that use this server."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "HOLDFAST_")) or name == "HOLDFAST_NO_CGROUP"
        }
        return {
            **inherited,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_API_URL": self.api_url,
            "DO_NOT_TRACK": "1",
            **self._settings,
        }

    def start(self) -> None:
        """Start the server and return when it answers; for the main thread."""
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", "--factory"),
                    "prefect.server.api.server:create_app",
                    *("--host", "127.0.0.1", "--port", str(self.port), "--log-level", "error"),
                ],
                env={**self.environment, "PREFECT__SERVER_FINAL": "1"},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        deadline = time.monotonic() + UP_S
        while not self._answers():
            assert self._process.poll() is None, f"the server ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"no server in {UP_S} s:\n{self.log.read_text()}"
            time.sleep(POLL_S)

    def kill(self) -> None:
        """End the server as a crash would: what it holds in memory is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End exactly the process that ``start`` started, and wait until it is gone."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def close(self) -> None:
        """Stop, and let go of connections."""
        self.stop()
        self.client.close()

    def ask(self, method: str, path: str, **content: Any) -> Any:
        """Return the answer; a server that is busy recording says 503 and is asked again."""
        deadline = time.monotonic() + BUSY_S
        while True:
            response = self.client.request(method, path, **content)
            if response.status_code != 503 or time.monotonic() > deadline:
                return response.raise_for_status().json()
            time.sleep(POLL_S)

    def new_flow_run(self, state: str = "RUNNING") -> str:
        """Open a flow run in this state and return its id."""
        flow = self.ask("POST", "/flows/", json={"name": "test"})
        body = {
            "flow_id": flow["id"],
            "name": f"run-{uuid4()}",
            "state": {"type": state, "name": state.title()},
        }
        run = self.ask("POST", "/flow_runs/", json=body)
        return str(run["id"])

    def flow_run_state(self, flow_run_id: str) -> tuple[str, str, str]:
        """Return the type, name and message of a flow run's state."""
        state = self.ask("GET", f"/flow_runs/{flow_run_id}")["state"]
        return state["type"], state["name"], state["message"]

    def count(self, flow_run_id: str) -> int:
        """Return how many task runs a flow run has."""
        body = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
        return int(self.ask("POST", "/task_runs/count", json=body))

    def task_runs(self, flow_run_id: str) -> dict[str, dict[str, Any]]:
        """Return every task run of a flow run, by its name."""
        found: dict[str, dict[str, Any]] = {}
        while True:
            body = {
                "flow_runs": {"id": {"any_": [flow_run_id]}},
                "sort": "ID_DESC",
                "limit": 200,
                "offset": len(found),
            }
            page = self.ask("POST", "/task_runs/filter", json=body)
            found.update({run["name"]: run for run in page})
            if len(page) < 200:
                return found

    def states_of(self, task_run_id: str) -> list[str]:
        """Return the names of the states that a task run has gone through, oldest first."""
        states = self.ask("GET", "/task_run_states/", params={"task_run_id": task_run_id})
        return [state["name"] for state in states]

    def graph(self, flow_run_id: str) -> dict[str, Any]:
        """Return what the run page draws."""
        found = self.ask("GET", f"/flow_runs/{flow_run_id}/graph-v2")
        assert isinstance(found, dict)
        return found

    def _answers(self) -> bool:
        try:
            return self.client.get("/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


def _die_with_parent() -> None:
    """Have the kernel end this process with the thread that started it: tests get killed too."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server that all tests of the session share: each opens flow runs of its own."""
    server = PrefectServer(tmp_path_factory.mktemp("prefect"))
    server.start()
    yield server
    server.close()

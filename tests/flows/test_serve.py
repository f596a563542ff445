"""``make serve``: server, pool and worker come up, run a deployment, and are gone after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.waiting import wait_for

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(folder: Path) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT", "HOLDFAST"))
    }
    return {**inherited, "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(ROOT)}


def serve_command(port: int, folder: Path) -> list[str]:
    places = ["--home", str(folder / "home"), "--runs", str(folder / "runs")]
    return [sys.executable, "-m", "flows.serve", "--port", str(port), *places]


def ask(port: int, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.mark.prefect
def test_the_flows_are_deployed_run_by_the_worker_and_nothing_is_left(tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "out.txt"
    graph = tmp_path / "graph.yaml"
    graph.write_text("name: served\njobs: [{id: hello, command: echo hello}]\n")
    with out.open("wb") as stream:
        process = subprocess.Popen(
            serve_command(port, tmp_path),
            cwd=tmp_path,
            env=environment(tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        wait_for(
            lambda: b"Ctrl-C" in out.read_bytes() or process.poll() is not None,
            "server, deployments and worker",
            PATIENCE_S,
        )
        assert process.poll() is None, out.read_text()
        deployments = ask(port, "/deployments/filter", {"limit": 10, "offset": 0})
        assert {each["name"] for each in deployments} == {"job-dag", "experiment"}
        (job_dag,) = (each["id"] for each in deployments if each["name"] == "job-dag")
        parameters = {"file": str(graph)}
        ask(port, f"/deployments/{job_dag}/create_flow_run", {"parameters": parameters})
        results = wait_for(
            lambda: list((tmp_path / "runs").glob("*_served/results.json")),
            "the worker runs it",
            PATIENCE_S,
        )
        assert json.loads(results[0].read_bytes())["counts"]["passed"] == 1
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0, out.read_text()
        assert psutil.wait_procs(family, timeout=10)[1] == []
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE_S)


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            serve_command(port, tmp_path),
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
        )
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: port {port} of 127.0.0.1 is taken (")
    assert not (tmp_path / "home").exists()

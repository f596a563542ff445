"""Flows that run in the tests' own process against the session's Prefect server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import warnings
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from support.prefect_server import PrefectServer
from support.waiting import wait_for


@dataclass
class FlowBench:
    """A server, a folder of runs, and what tests ask about them."""

    server: PrefectServer
    runs: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment for flows that run in processes of their own."""
        return {
            **self.server.environment,
            "HOLDFAST_RUNS": str(self.runs),
            "XDG_STATE_HOME": str(self.runs.parent / "state"),
        }

    def run_directories(self) -> list[Path]:
        """Return the directories of all runs, oldest first."""
        if not self.runs.is_dir():
            return []
        return sorted(path for path in self.runs.iterdir() if not path.name.startswith("."))

    def only_run(self) -> Path:
        """Return the directory of the one run there is."""
        (run,) = self.run_directories()
        return run

    def run_file(self, run: Path | None = None) -> dict[str, Any]:
        """Return what ``run.json`` of a run says."""
        found = json.loads(((run or self.only_run()) / "run.json").read_bytes())
        assert isinstance(found, dict)
        return found

    def jobs(self, run: Path | None = None) -> dict[str, dict[str, Any]]:
        """Return the jobs of ``results.json`` by their id."""
        results = json.loads(((run or self.only_run()) / "results.json").read_bytes())
        return {job["id"]: job for job in results["jobs"]}

    def statuses(self, run: Path | None = None) -> dict[str, str]:
        """Return how each job ended."""
        return {name: job["status"] for name, job in self.jobs(run).items()}

    def flow_run_id(self, run: Path | None = None) -> str:
        """Return the flow run that a run belongs to."""
        return str(self.run_file(run)["flow_run_id"])

    def state(self, run: Path | None = None) -> tuple[str, str]:
        """Return type and name of the state of a run's flow run."""
        kind, name, _ = self.server.flow_run_state(self.flow_run_id(run))
        return kind, name

    def task_runs(self, *names: str) -> dict[str, dict[str, Any]]:
        """Return the task runs of the one run once those with these names have ended."""
        flow_run_id = self.flow_run_id()

        def ended() -> dict[str, dict[str, Any]] | None:
            found = self.server.task_runs(flow_run_id)
            final = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
            there = all(name in found and found[name]["state_type"] in final for name in names)
            return found if there else None

        return wait_for(ended, f"the end of task runs {names}", timeout_s=30) or {}


@pytest.fixture
def bench(
    prefect_server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FlowBench]:
    """Flows that the test calls report to the session's server and run in a fresh folder."""
    runs = tmp_path / "runs"
    monkeypatch.setenv("HOLDFAST_RUNS", str(runs))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            temporary_settings(
                {
                    PREFECT_API_URL: prefect_server.api_url,
                    PREFECT_HOME: tmp_path / "prefect",
                    PREFECT_LOGGING_TO_API_ENABLED: False,
                }
            )
        )
        yield FlowBench(prefect_server, runs)


def run_async(flow_call: Coroutine[Any, Any, Any]) -> Any:
    """Run an async flow to its end.

    Prefect leaves the sockets of an async flow's client to the garbage collector, with any task
    runner: its warning must not fall on another test.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            return asyncio.run(flow_call)
        finally:
            gc.collect()

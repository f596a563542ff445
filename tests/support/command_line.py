"""Drives ``python -m flows.run`` as a person would: as a process, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.waiting import wait_for

TIMEOUT_S = 90.0


@dataclass
class CommandLine:
    """A folder to stand in, with the places of runs, locks and Prefect below it."""

    place: Path
    settings: dict[str, str] = field(default_factory=dict)
    """Environment variables on top of the rest."""

    @property
    def runs(self) -> Path:
        return self.place / "runs"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT", "HOLDFAST")) or name == "HOLDFAST_NO_CGROUP"
        }
        return {
            **inherited,
            "XDG_STATE_HOME": str(self.place / "state"),
            "PREFECT_HOME": str(self.place / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "COLUMNS": "200",
            **self.settings,
        }

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """Start a command in a session of its own, like one in another terminal."""
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen(
            [sys.executable, "-m", "flows.run", *map(str, arguments)],
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **given,
        )

    def run(self, *arguments: object, timeout_s: float = TIMEOUT_S) -> Done:
        """Run a command to its end."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{arguments} took over {timeout_s} s:\n{out}\n{err}") from None
        return Done(process.returncode, out, err)

    def write(self, name: str, text: str) -> Path:
        """Write a file in the folder."""
        path = self.place / name
        path.write_text(text)
        return path

    def only_run(self) -> RunOnDisk:
        """Return the one run directory that there is, as soon as there is one."""
        return RunOnDisk(wait_for(self._runs, "a run directory")[0])

    def newest_run(self) -> RunOnDisk:
        """Return the newest run directory."""
        return RunOnDisk(self._runs()[-1])

    def _runs(self) -> list[Path]:
        found = self.runs.iterdir() if self.runs.is_dir() else []
        return sorted(path for path in found if not path.name.startswith("."))


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class RunOnDisk:
    """A run directory, read as any program would."""

    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    def file(self) -> dict[str, Any]:
        """``run.json``; empty while there is none."""
        try:
            value: dict[str, Any] = json.loads((self.directory / "run.json").read_text())
        except FileNotFoundError:
            return {}
        return value

    def results(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.directory / "results.json").read_text())
        return value

    def jobs(self) -> Mapping[str, dict[str, Any]]:
        return {job["id"]: job for job in self.results()["jobs"]}

    def events(self) -> list[dict[str, Any]]:
        """Every whole line of the journal."""
        try:
            text = (self.directory / "events.jsonl").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def statuses(self) -> dict[str, str]:
        """The newest status of each job."""
        return {each["job"]: each["to"] for each in self.events() if each["event"] == "job_status"}

    def links(self) -> dict[str, set[str]]:
        """The jobs in each of the four folders of links; each link leads to its job."""
        found = {}
        for folder in ("running", "passing", "failed", "killed"):
            links = list((self.directory / folder).iterdir())
            for link in links:
                assert os.readlink(link) == f"../jobs/{link.name}"
                assert link.is_dir()
            found[folder] = {link.name for link in links}
        return found

    def log(self, job: str) -> bytes:
        """What the job has written; nothing before it has a log."""
        try:
            return (self.directory / "jobs" / job / "log.txt").read_bytes()
        except FileNotFoundError:
            return b""

    def wait_until_running(self, *jobs: str) -> None:
        """Return when these jobs run."""
        wait_for(
            lambda: all(self.statuses().get(job) == "running" for job in jobs),
            f"{jobs} to run in {self.directory}",
        )

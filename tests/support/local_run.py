"""A run directory with a local backend, for tests with real processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.completions import Completions

from backends.base import Completion, Launch
from backends.keeper_process import KeeperFile
from backends.local import LocalBackend
from tasks.run_context import RunContext
from tasks.spec import JobRecord, JobSpec


class LocalRun:
    """One run; jobs are numbered in the order in which they are made."""

    def __init__(self, folder: Path, name: str = "run", **context: Any) -> None:
        self.directory = folder / name
        (self.directory / "jobs").mkdir(parents=True, exist_ok=True)
        context.setdefault("cwd", folder)
        context.setdefault("environment", {"PATH": os.environ["PATH"]})
        self.context = RunContext(name, self.directory, **context)
        self.completions = Completions()
        self.lost: list[str] = []
        self.backend = LocalBackend(self.context, on_keeper_lost=self.lost.append)
        self.jobs: dict[int, JobRecord] = {}

    def __enter__(self) -> LocalRun:
        self.backend.start(self.completions)
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.close()

    def job(self, command: str | tuple[str, ...] | list[str], **fields: Any) -> Launch:
        """Return the first attempt of a new job; ``fields`` as in a DAG file."""
        number = len(self.jobs) + 1
        fields.setdefault("id", f"job-{number}")
        self.jobs[number] = JobSpec(command=command, **fields).record()
        return Launch(number, self.jobs[number], 1)

    def launch(self, command: str | tuple[str, ...] | list[str], **fields: Any) -> int:
        """Start a new job and return its number."""
        launch = self.job(command, **fields)
        self.backend.launch([launch])
        return launch.number

    def again(
        self, number: int, attempt: int, resources: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        """Start another attempt of a job."""
        self.backend.launch([Launch(number, self.jobs[number], attempt, resources or {})])

    def run(self, command: str | tuple[str, ...] | list[str], **fields: Any) -> Completion:
        """Start a new job and return how it ended."""
        return self.completions.of(self.launch(command, **fields))

    def log(self, number: int, name: str = "log.txt") -> bytes:
        """Return what a job has written so far."""
        path = self.job_directory(number) / name
        return path.read_bytes() if path.exists() else b""

    def job_directory(self, number: int) -> Path:
        return self.directory / "jobs" / self.jobs[number].id

    @property
    def keeper(self) -> KeeperFile:
        """The keeper that the run directory names."""
        file = KeeperFile.read(self.directory)
        assert file is not None, "there is no keeper"
        return file

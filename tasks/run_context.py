"""What every part of a run knows about it: its name, place, number and environment."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.process_number import RUN_BITS

_NOT_HANDED_ON = ("PREFECT__", "HOLDFAST_")


def new_run_number() -> int:
    """Return a random number that no other run on this host carries, in practice."""
    return secrets.randbits(RUN_BITS) | 1 << (RUN_BITS - 1)


def inherited_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what jobs inherit: this process's environment without what must not leak.

    ``PREFECT__*`` would make a nested flow believe that it is this one; ``PREFECT_API_KEY`` is a
    secret; ``HOLDFAST_*`` of an outer job names the outer job's directory.
    """
    source = os.environ if environment is None else environment
    return {
        name: value
        for name, value in source.items()
        if not name.startswith(_NOT_HANDED_ON) and name != "PREFECT_API_KEY"
    }


@dataclass(frozen=True, slots=True)
class RunContext:
    """A run as its backends see it.

    ``directory`` is ``None`` for a run without files (large graphs on the fake backend).
    ``grace_s`` overrides each job's own grace where it is given.
    """

    run: str
    """The run's name: the name of its directory."""
    directory: Path | None
    number: int = field(default_factory=new_run_number)
    environment: Mapping[str, str] = field(default_factory=inherited_environment)
    cwd: Path = field(default_factory=Path.cwd)
    """Where jobs without a ``cwd`` of their own run, and what a relative one is relative to."""
    grace_s: float | None = None
    on_crash: str = "kill"
    """``kill`` or ``keep``: what the keeper does with the jobs of a dead driver."""
    adopt_within_s: float = 3600.0
    settle_command: tuple[str, ...] = ()
    """What the keeper runs after it has ended the jobs of a dead driver."""

    @property
    def jobs_directory(self) -> Path:
        """``jobs/`` of the run directory; raises ``RuntimeError`` in a run without files."""
        if self.directory is None:
            raise RuntimeError(f"run {self.run!r} has no directory; this is a bug")
        return self.directory / "jobs"

    def job_directory(self, job_id: str) -> Path:
        """Return the directory of one job."""
        return self.jobs_directory / job_id

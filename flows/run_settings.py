"""What a person chooses for one run, however it is started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

OnCrash = Literal["kill", "keep"]
Resume = Literal["auto", "always", "never"]

DEFAULT_REPORT_WAIT_S = 10.0
DEFAULT_REPORT_LIMIT = 9_000
DEFAULT_ADOPT_WITHIN_S = 3_600.0


def default_parallelism() -> int:
    """Return how many jobs run at a time when nobody says: one for each usable processor."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # pragma: no cover - macOS
        return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The settings of one run; times are in seconds, ``None`` means: as the jobs say."""

    name: str
    runs: Path
    cwd: Path | None = field(default_factory=Path.cwd)
    """Where jobs run that say nothing else; ``None``: in the run directory."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What the run was started with, for ``run.json``."""
    max_parallel: int | None = None
    """Jobs at a time; ``None``: as the graph says, else one for each processor."""
    resources: Mapping[str, int | tuple[str, ...]] = field(default_factory=dict)
    backend: str = "local"
    backend_limits: Mapping[str, int] = field(default_factory=dict)
    fail_fast: bool = False
    grace_s: float | None = None
    on_crash: OnCrash = "kill"
    adopt_within_s: float = DEFAULT_ADOPT_WITHIN_S
    resume: Resume = "auto"
    checkpoint: Path | None = None
    wait: bool = False
    """Whether to wait for another run of the name instead of refusing to start."""
    progress: bool = True
    """Whether to show progress on standard error, in the form that suits it."""
    progress_interval_s: float | None = None
    """Seconds between two pictures; 0: each change of each job; ``None``: as suits."""
    report_wait_s: float = DEFAULT_REPORT_WAIT_S
    report_limit: int = DEFAULT_REPORT_LIMIT

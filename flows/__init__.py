"""What a person starts: flows, task runners, the command line, and the wiring between rooms."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.task_runners import FakeTaskRunner, LocalTaskRunner
    from tasks.run_job import run_job
    from tasks.spec import JobSpec

__all__ = ["FakeTaskRunner", "JobSpec", "LocalTaskRunner", "run_job"]

_HOME = {
    "FakeTaskRunner": "flows.task_runners",
    "LocalTaskRunner": "flows.task_runners",
    "JobSpec": "tasks.spec",
    "run_job": "tasks.run_job",
}


def __getattr__(name: str) -> object:
    # Imported when asked for: the command line must not pay for Prefect, which takes a second.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)

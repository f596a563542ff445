"""A pipeline as jobs: one for each worker process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.spec import JobRecord
from tasks.worker_config import WorkerConfig


def worker_jobs(
    config: WorkerConfig, workers: int, *, name: str = "worker", options: Mapping[str, Any] = {}
) -> list[JobRecord]:
    """Return the jobs that run a pipeline, ``workers`` of them, each with its share.

    ``config.share`` says which shard of the sources they share between them; ``options`` are more
    fields of each job.
    """
    environment = {**options.get("env", {}), "PYTHONPATH": _python_path()}
    return [
        JobRecord(
            f"{name}-{number + 1}",
            (
                *(sys.executable, "-m", "tasks.pipeline_worker"),
                replace(
                    config, share=replace(config.share, worker=number, workers=workers)
                ).to_text(),
            ),
            (),
            {**options, "env": environment},
        )
        for number in range(workers)
    ]


def _python_path() -> str:
    """Return a path on which a worker finds this very installation."""
    root = str(Path(__file__).parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return f"{root}{os.pathsep}{inherited}" if inherited else root

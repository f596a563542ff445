"""Processes that use a checkpoint, for tests in which one of them is killed or forks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PRELUDE = """
import os, sys, time
from pathlib import Path
from tasks.checkpoint.errors import *
from tasks.checkpoint.record import *
from tasks.checkpoint.settings import StoreSettings
from tasks.checkpoint.store import CheckpointStore
from tasks.status import RunStatus

def say(*words):
    print(*words, flush=True)
"""


def environment() -> dict[str, str]:
    """Return an environment in which the project and the test helpers can be imported."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


def start(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    """Start Python code that finds its arguments in ``sys.argv[1:]``; it may ``say`` lines."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, *map(str, arguments)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def heard(process: subprocess.Popen[str]) -> str:
    """Return the next line that the process says; empty when it is gone."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    """Kill the process and let go of its pipes."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def run(code: str, *arguments: object) -> str:
    """Run Python code to its end, which must be good, and return what it said."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code, *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

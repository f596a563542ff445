"""Are Slurm's commands there, and does its controller answer?"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence

from flows.diagnosis.examination import Examination
from flows.diagnosis.finding import Finding, ok, warning
from tasks.sanitise import one_line

_ANSWER_WITHIN_S = 5.0

_QUESTIONS: Mapping[str, Sequence[str]] = {
    "sbatch": ("--version",),
    "squeue": ("--noheader", f"--user={os.getuid()}", "--format=%i"),
    "scontrol": ("ping",),
}
"""What is asked of each command; the last two have to reach the controller."""


def check_slurm(_examination: Examination) -> Iterator[Finding]:
    """Ask each of the commands that the Slurm backend uses; none of them starts anything."""
    paths = {name: shutil.which(name) for name in _QUESTIONS}
    if not any(paths.values()):
        yield ok("slurm", "not installed")
        return
    for name, path in paths.items():
        if path is None:
            yield warning(name, "not on PATH, although others of Slurm are", "extend PATH")
    # All at once: each may take its time when the controller is down.
    asked = {name: _start([path, *_QUESTIONS[name]]) for name, path in paths.items() if path}
    deadline = time.monotonic() + _ANSWER_WITHIN_S
    for name, process in asked.items():
        yield _answer(name, process, deadline)


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def _answer(name: str, process: subprocess.Popen[str], deadline: float) -> Finding:
    advice = "is slurmctld up, and munge? see: scontrol ping"
    try:
        said, _ = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return warning(name, f"does not answer within {_ANSWER_WITHIN_S:g} s", advice)
    lines = [one_line(line, 200) for line in said.splitlines() if line.strip()]
    if process.returncode != 0 or "DOWN" in said:
        last = lines[-1] if lines else "nothing"
        return warning(name, f"exit code {process.returncode}, and it says: {last}", advice)
    if name == "squeue":
        return ok(name, f"answers: {len(lines):,} jobs of this user")
    return ok(name, lines[0] if lines else "answers")

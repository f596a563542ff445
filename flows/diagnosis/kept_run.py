"""What a keeper whose driver died is doing, and what a person can do about it."""

from __future__ import annotations

import signal
from pathlib import Path

from backends.keeper_process import KeeperError, KeeperFile, ask_keeper
from backends.process_tree import Identity, send_signal
from flows.diagnosis.finding import Finding, ok, problem, warning
from flows.diagnosis.processes import is_stopped


def judge_kept_run(directory: Path, keeper: Identity, *, fix: bool) -> Finding:
    """Say what becomes of a run without a driver; with ``fix`` a stopped keeper goes on.

    The jobs are left alone: whoever started the run with ``--on-crash keep`` wants them.
    """
    run, pid = directory.name, keeper[0]
    if is_stopped(pid):
        message = f"its driver died, and its keeper, process {pid}, is stopped"
        if not fix or not send_signal(keeper, signal.SIGCONT):
            return problem(run, message, f"let it end the jobs: kill -CONT {pid}")
        return warning(run, f"{message}; told to go on")
    file = KeeperFile.read(directory)
    if file is None:
        return ok(run, f"its driver died; keeper {pid} has ended it and is leaving")
    try:
        answer = ask_keeper(file, {"type": "status"})
    except KeeperError as error:
        return warning(run, f"its driver died; keeper {pid} says nothing: {error}", "look again")
    jobs = _jobs_text(len(answer["running"]))
    if answer["phase"] == "running":
        message = f"its driver died; keeper {pid} keeps {jobs} for the next start to adopt"
        command = f"python -m flows.run cancel {run} --runs {directory.parent}"
        advice = f"start the run again to go on with them, or end them: {command}"
        return warning(run, message, advice)
    return ok(run, f"its driver died; keeper {pid} is ending it, with {jobs} left")


def _jobs_text(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"

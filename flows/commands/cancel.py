"""``cancel``: end a run from another terminal."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import Any

import click

from backends.keeper_process import KeeperError
from flows.commands.options import places
from flows.control import ask
from flows.history import PastRun, find_run
from flows.kept_run import KeptRun, kept_run, stop_kept_run
from flows.run_directory import RunFile
from tasks.errors import StateError

_ANSWER_TIMEOUT_S = 5.0
_END_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.05


@click.command("cancel")
@click.argument("run", metavar="RUN")
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Between SIGTERM and SIGKILL.  [default: each job's own]",
)
@click.option("--now", is_flag=True, help="SIGKILL at once: the same as --grace 0.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the end of the run.")
@places
def command(
    run: str, runs: Path, as_json: bool, grace_s: float | None, now: bool, no_wait: bool
) -> int:  # fmt: skip
    """End a run that is in progress: every process tree of it, then the run itself.

    Exit code 0 when it is done, 1 when it could not be done (the reason is said), 4 for an
    unknown run, 5 for one that is not running.
    """
    past = find_run(runs, run)
    if past.file.status.is_end:
        raise StateError(f"run {past.file.run} is not running: it is {past.file.status.value}")
    answer = _cancel(past, 0.0 if now else grace_s, wait=not no_wait)
    if as_json:
        click.echo(json.dumps(answer))
    else:
        click.echo(answer["message"], err=not answer["done"])
    return 0 if answer["done"] else 1


def _cancel(past: PastRun, grace_s: float | None, *, wait: bool) -> dict[str, Any]:
    """Ask the run to end; returns whether it did, its status and a message."""
    name = past.file.run
    request = {"op": "cancel", "by": f"cancel by {getpass.getuser()}", "grace_s": grace_s}
    try:
        if past.file.socket is None:
            raise ConnectionError("the run is still starting")
        answer = ask(Path(past.file.socket), request, timeout_s=_ANSWER_TIMEOUT_S)
    except OSError as error:
        kept = kept_run(past.directory)
        if kept is not None:
            return _cancel_kept(past, kept, grace_s, wait=wait)
        return _answer(
            past, False, f"could not cancel run {name}: its process says nothing ({error})"
        )
    if not answer.get("ok"):
        return _answer(past, False, f"could not cancel run {name}: {answer.get('error')}")
    return _asked(past, grace_s, wait=wait)


def _cancel_kept(
    past: PastRun, kept: KeptRun, grace_s: float | None, *, wait: bool
) -> dict[str, Any]:
    """End a run whose driver died through the keeper that keeps its jobs."""
    try:
        stop_kept_run(kept, grace_s)
    except KeeperError as error:
        return _answer(past, False, f"could not cancel run {past.file.run}: {error}")
    return _asked(past, grace_s, wait=wait)


def _asked(past: PastRun, grace_s: float | None, *, wait: bool) -> dict[str, Any]:
    """Say what becomes of a run that has been asked to end."""
    name = past.file.run
    if not wait:
        return _answer(past, True, f"run {name} is being cancelled")
    if _wait_for_end(past, _END_TIMEOUT_S + (grace_s or 0)):
        return _answer(past, True, f"run {name} is cancelled")
    return _answer(
        past, False, f"run {name} was asked to end but has not yet; look at: show {name}"
    )


def _answer(past: PastRun, done: bool, message: str) -> dict[str, Any]:
    file = RunFile.read(past.directory) or past.file
    return {"run": file.run, "done": done, "status": file.status.value, "message": message}


def _wait_for_end(past: PastRun, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        file = RunFile.read(past.directory)
        if file is not None and file.status.is_end:
            return True
        time.sleep(_LOOK_EVERY_S)
    return False

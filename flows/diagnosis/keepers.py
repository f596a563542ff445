"""Is every keeper on this host at work for somebody?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.diagnosis.examination import Examination
from flows.diagnosis.finding import Finding, ok, warning
from flows.diagnosis.keeper_processes import LiveKeeper, live_keepers
from flows.diagnosis.kept_run import judge_kept_run
from flows.diagnosis.processes import is_stopped
from tasks.process_identity import ProcessIdentity, wait_for_end

_LEAVING_S = 1.0
"""A keeper that has removed its files is gone in a moment."""


def check_keepers(examination: Examination) -> Iterator[Finding]:
    """Find the keepers that have lost their driver, in runs of other folders too."""
    keepers = live_keepers(examination.processes())
    for keeper in keepers:
        yield from _judge(keeper, examination)
    led = sum(keeper.driver_lives is True for keeper in keepers)
    yield ok("at work", f"{led} for living drivers" if led else "none for a living driver")


def _judge(keeper: LiveKeeper, examination: Examination) -> Iterator[Finding]:
    directory = keeper.directory
    if directory is None or keeper.driver_lives is None:
        yield from _without_directory(keeper)
    elif directory.parent == examination.runs:
        return  # told with its run
    elif not keeper.driver_lives:
        yield judge_kept_run(directory, keeper.process.identity, fix=examination.fix)
    elif is_stopped(keeper.process.pid):
        message = f"its keeper, process {keeper.process.pid}, is stopped"
        yield warning(directory.name, message, f"let it go on: kill -CONT {keeper.process.pid}")


def _without_directory(keeper: LiveKeeper) -> Iterator[Finding]:
    pid = keeper.process.pid
    identity = ProcessIdentity.of(pid)
    if identity is None or wait_for_end(identity, timeout_s=_LEAVING_S):
        return
    message = f"this keeper's run directory {_fate(keeper.directory)}, so its run cannot be told"
    yield warning(f"process {pid}", message, f"if nobody needs the run, end it: kill {pid}")


def _fate(directory: Path | None) -> str:
    if directory is None:
        return "cannot be found"
    return f'"{directory}" {"names it no more" if directory.is_dir() else "is gone"}'

"""Does each run that reads as going on go on?  Those that are dead are settled, as in ``list``."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from flows.diagnosis.examination import Examination, UnsettledError
from flows.diagnosis.finding import Finding, ok, problem, warning
from flows.diagnosis.kept_run import judge_kept_run
from flows.diagnosis.processes import is_stopped
from flows.history import PastRun, runs_in
from flows.kept_run import driver_of, has_lost_its_driver
from flows.lock import keeper_of
from tasks.process_identity import ProcessIdentity, host_name

_RUN_NAME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}_.+")
_BEING_MADE_S = 60.0


def check_runs(examination: Examination) -> Iterator[Finding]:
    """Look at every run of the folder; give those that died their end."""
    runs = examination.runs
    if not examination.runs_answer:
        yield warning("runs", f'"{runs}" does not answer, so no run was looked at', "see Places")
        return
    known: set[str] = set()
    for past in runs_in(runs):
        known.add(past.directory.name)
        if not past.file.status.is_end:
            yield _going_on(past, examination)
    yield from _unreadable(runs, known)
    yield ok("folder", f'{len(known):,} runs in "{runs}"' if known else f'no runs in "{runs}"')


def _going_on(past: PastRun, examination: Examination) -> Finding:
    keeper = keeper_of(past.directory)
    if not has_lost_its_driver(past.file):
        return _led(past, keeper)
    if keeper is None or not keeper.is_alive():
        return _settled(past, examination)
    identity = keeper.pid, keeper.start_time
    return judge_kept_run(past.directory, identity, fix=examination.fix)


def _led(past: PastRun, keeper: ProcessIdentity | None) -> Finding:
    run, driver = past.file.run, driver_of(past.file)
    if driver is None:  # pragma: no cover - then it would be dead
        raise RuntimeError(f"run {run} lives without a driver; this is a bug")
    if driver.host != host_name():
        status = past.file.status.value
        return ok(run, f'{status} on host "{driver.host}", which alone can tell more')
    for name, process in (("driver", driver), ("keeper", keeper)):
        if process is not None and process.is_alive() and is_stopped(process.pid):
            message = f"its {name}, process {process.pid}, is stopped"
            return warning(run, message, f"let it go on: kill -CONT {process.pid}")
    return ok(run, f"{past.file.status.value}, led by process {driver.pid}")


def _settled(past: PastRun, examination: Examination) -> Finding:
    run, driver = past.file.run, driver_of(past.file)
    who = "its driver" if driver is None else f"its driver, process {driver.pid},"
    message = f"read as {past.file.status.value}, but {who} is dead"
    place = f"{run} --runs {past.directory.parent}"
    try:
        status = examination.settle(past.directory)
    except UnsettledError as error:
        return problem(run, f"{message}; {error}", f"see why: python -m flows.run settle {place}")
    untold = examination.offline and past.file.prefect is not None
    advice = f"tell Prefect: python -m flows.run sync {place}" if untold else ""
    return warning(run, f"{message}; settled: {status}", advice)


def _unreadable(runs: Path, known: set[str]) -> Iterator[Finding]:
    """Tell of run directories that no command can say anything about."""
    if not runs.is_dir():
        return
    for directory in sorted(runs.iterdir()):
        name = directory.name
        if name in known or not _RUN_NAME.fullmatch(name) or not _is_old(directory):
            continue
        message = "holds no run.json that can be read, so no command knows this run"
        yield warning(name, message, f'remove "{directory}" if nothing in it is needed')


def _is_old(directory: Path) -> bool:
    try:
        return directory.is_dir() and time.time() - directory.stat().st_mtime > _BEING_MADE_S
    except OSError:
        return False

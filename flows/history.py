"""The runs of a folder, from disk alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.run_directory import RunFile
from tasks.errors import HoldfastError, UnknownError

_log = logging.getLogger("holdfast.history")


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run directory and what its ``run.json`` says."""

    directory: Path
    file: RunFile


def runs_in(runs: Path) -> Iterator[PastRun]:
    """Yield the runs of the folder, oldest first; folders that are no runs are passed over."""
    try:
        entries = sorted(path for path in runs.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return
    for directory in entries:
        file = RunFile.read(directory)
        if file is not None:
            yield PastRun(directory, file)


def settled_runs(runs: Path) -> list[PastRun]:
    """Return all runs, oldest first; those whose driver died are ended and settled first."""
    return [settled(run) for run in runs_in(runs)]


def settled(run: PastRun) -> PastRun:
    """Return the run as it truly is: one that reads as going on but is dead is settled."""
    # Imported here: settling needs the whole house, telling a history does not.
    from flows.settle import is_dead, settle

    if not is_dead(run.directory, run.file):
        return run
    try:
        settle(run.directory)
    except (HoldfastError, OSError) as error:
        _log.warning("run %s could not be settled: %s", run.file.run, error)
    return PastRun(run.directory, RunFile.read(run.directory) or run.file)


def find_run(runs: Path, text: str) -> PastRun:
    """Return the run called ``text``: its name, a unique beginning of it, or ``last``.

    Raises ``UnknownError`` with the candidates where several match.
    """
    known = list(runs_in(runs))
    if not known:
        raise UnknownError(f'there are no runs in "{runs}"; --runs names another folder')
    if text == "last":
        return settled(known[-1])
    exact = [run for run in known if run.directory.name == text]
    found = exact or [run for run in known if text and run.directory.name.startswith(text)]
    if len(found) == 1:
        return settled(found[0])
    if not found:
        raise UnknownError(f'no run in "{runs}" is called or begins with "{text}"; see: list')
    names = ", ".join(run.directory.name for run in found[:5])
    raise UnknownError(f'"{text}" could be {len(found)} runs: {names}; say more of the name')

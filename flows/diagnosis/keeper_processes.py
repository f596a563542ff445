"""The keepers that are at work on this host, whichever folder their runs are in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from backends.keeper.main import PROCESS_NAME
from backends.keeper_process import KEEPER_FILE, KEEPER_LOG
from backends.process_tree import Process, Snapshot, process_name
from flows.diagnosis.processes import command_line
from tasks.process_identity import start_time

_MAIN = b"backends.keeper.main"


@dataclass(frozen=True, slots=True)
class LiveKeeper:
    """A keeper and what can be told of its run from outside."""

    process: Process
    directory: Path | None
    """The run's directory, there or removed; ``None`` if it is not ours to see."""
    driver_lives: bool | None
    """``None`` where nobody can tell."""


def live_keepers(snapshot: Snapshot) -> list[LiveKeeper]:
    """Return the keepers among the processes."""
    return [_keeper(process) for process in snapshot.values() if _is_keeper(process)]


def _is_keeper(process: Process) -> bool:
    # A job may take the name; to be started like a keeper as well is no accident.
    if not process.is_alive or process_name(process.pid) != PROCESS_NAME:
        return False
    return _MAIN in command_line(process.pid)


def _keeper(process: Process) -> LiveKeeper:
    directory = _directory(process.pid)
    return LiveKeeper(process, directory, None if directory is None else driver_lives(directory))


def _directory(pid: int) -> Path | None:
    """Return the folder of the log that a keeper's standard error goes to."""
    try:
        log = Path(f"/proc/{pid}/fd/2").readlink()
    except OSError:
        return None
    # The kernel says so behind the name when the file was removed.
    return log.parent if log.name.removesuffix(" (deleted)") == KEEPER_LOG else None


def driver_lives(directory: Path) -> bool | None:
    """Whether the driver that a run directory's keeper names lives; ``None``: it names none."""
    try:
        driver = json.loads((directory / KEEPER_FILE).read_bytes())["driver"]
        return start_time(int(driver["pid"])) == int(driver["start_time"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

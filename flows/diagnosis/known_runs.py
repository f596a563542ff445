"""Which run a number belongs to, and whether anybody leads that run."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from backends.process_tree import Process, Snapshot, environment_value
from flows.diagnosis.keeper_processes import driver_lives, live_keepers
from flows.diagnosis.processes import line_above
from flows.diagnosis.sockets import run_number_of_socket, socket_files, somebody_listens
from flows.history import runs_in
from flows.lock import keeper_of
from flows.places import state_directory
from flows.run_directory import RunFile
from flows.settle import is_dead
from tasks.process_number import run_number_of


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run that was found on disk."""

    directory: Path
    file: RunFile

    def is_led(self) -> bool:
        """Whether its driver or its keeper lives, so that somebody sees to its processes."""
        file = RunFile.read(self.directory) or self.file
        if not file.status.is_end and not is_dead(self.directory, file):
            return True
        keeper = keeper_of(self.directory)
        return keeper is not None and keeper.is_alive()


class KnownRuns:
    """The runs that can be found from here: of a folder, of locks, keepers and processes."""

    def __init__(self, runs: Path | None, snapshot: Snapshot) -> None:
        self._runs: dict[int, KnownRun] = {}
        self._snapshot = snapshot
        keepers = live_keepers(snapshot)
        self._keepers = {keeper.process.pid for keeper in keepers}
        # This process may itself belong to a run: whatever else does is not ours to judge.
        self._own = run_number_of(resource.getrlimit(resource.RLIMIT_RSS)[0])
        for past in () if runs is None else runs_in(runs):
            self._runs[past.file.number] = KnownRun(past.directory, past.file)
        self._look_in(keeper.directory for keeper in keepers if keeper.directory is not None)
        self._look_in(_locked_directories())

    def find(self, number: int, carriers: Iterable[Process]) -> KnownRun | None:
        """Return the run of a number that these processes carry; ``None`` if nobody knows it."""
        if number not in self._runs:
            self._look_in(filter(None, map(_directory_in_environment, carriers)))
        return self._runs.get(number)

    def is_led(self, number: int, carriers: Iterable[Process]) -> bool:
        """Whether somebody sees to the run, by any sign that there is."""
        if number == self._own:
            return True
        carriers = list(carriers)
        if any(self._has_keeper(carrier.pid) for carrier in carriers):
            return True
        known = self.find(number, carriers)
        if known is not None:
            return known.is_led()
        return _answers(number) or any(
            driver_lives(directory)
            for directory in map(_directory_in_environment, carriers)
            if directory is not None
        )

    def _has_keeper(self, pid: int) -> bool:
        """Whether a keeper is above: it is handed whatever its jobs leave behind."""
        return any(above.pid in self._keepers for above in line_above(self._snapshot, pid))

    def _look_in(self, directories: Iterable[Path]) -> None:
        for directory in directories:
            file = RunFile.read(directory)
            if file is not None:
                self._runs.setdefault(file.number, KnownRun(directory, file))


def _answers(number: int) -> bool:
    """Whether a driver or keeper of that number listens: its run may lie in any folder."""
    own = (path for path in socket_files() if run_number_of_socket(path) == number)
    return any(somebody_listens(path) for path in own)


def _locked_directories() -> Iterable[Path]:
    for lock in state_directory().glob("locks/*.json"):
        try:
            yield Path(json.loads(lock.read_bytes())["directory"])
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _directory_in_environment(process: Process) -> Path | None:
    """Return the run directory that a job's environment names."""
    directory = environment_value(process.pid, "HOLDFAST_JOB_DIR")
    if directory is None or not os.path.isabs(directory):  # noqa: PTH117 - text of a job
        return None
    return Path(directory).parent.parent

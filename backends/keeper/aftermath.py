"""What the keeper does for a driver that died, once its jobs are ended.

First the settle command writes the end of the run that the driver could not write; then the
driver's wards, processes that it asked to have ended with the run, are ended.  Both are bounded
in time, so that the keeper always ends too.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

from backends.keeper.deadlines import Deadline, Deadlines
from backends.keeper.jobs import Jobs
from backends.process_tree import Identity, read_process, read_processes, send_signal

SETTLE_WITHIN_S = 120.0
_FIRST_LOOK_S = 0.02
_LONGEST_LOOK_S = 0.5


class Settling:
    """The settle command, while it runs."""

    def __init__(self, jobs: Jobs, deadlines: Deadlines, log: Callable[[str], None]) -> None:
        self._jobs = jobs
        self._deadlines = deadlines
        self._log = log
        self._pid: int | None = None
        self._limit: Deadline | None = None

    def start(self, command: Sequence[str], cwd: str) -> None:
        """Start the command in the driver's folder and environment."""
        folder = cwd if os.path.isdir(cwd) else "/"  # noqa: PTH112
        try:
            self._pid = self._jobs.spawn_helper(command, folder, dict(os.environ))
        except OSError as error:
            self._log(f"cannot settle the run with {command!r}: {error}")
            return
        self._limit = self._deadlines.add(time.monotonic() + SETTLE_WITHIN_S, self._give_up)

    @property
    def is_over(self) -> bool:
        """Whether the command has ended, or was never started."""
        if self._pid is None or not self._jobs.helper_is_running(self._pid):
            self._deadlines.cancel(self._limit)
            return True
        return False

    def _give_up(self) -> None:
        self._log(f"settling took longer than {SETTLE_WITHIN_S:g} s; it is ended")
        if self._pid is not None:
            os.killpg(self._pid, signal.SIGKILL)


class Wards:
    """Processes beside the jobs that die with the run, each with what descends from it."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._wards: list[Identity] = []
        self._tree: list[Identity] = []
        self._insist_at = 0.0
        self._look_s = _FIRST_LOOK_S

    def add(self, ward: Identity) -> None:
        """Take a process into care; one that is gone already does no harm."""
        self._wards.append(ward)

    def end(self, grace_s: float) -> None:
        """Ask all wards to end; those that have not after ``grace_s`` are killed."""
        self._tree = _with_descendants(self._wards)
        self._insist_at = time.monotonic() + grace_s
        for identity in self._tree:
            send_signal(identity, signal.SIGTERM)
            send_signal(identity, signal.SIGCONT)
        self._look()

    @property
    def are_gone(self) -> bool:
        """Whether none of them lives any more, or can be done anything about."""
        return not self._tree

    def _look(self) -> None:
        self._tree = [identity for identity in self._tree if _lives(identity)]
        now = time.monotonic()
        if self._tree and now >= self._insist_at:
            for identity in self._tree:
                send_signal(identity, signal.SIGKILL)
            self._tree = []
        elif self._tree:
            at = min(now + self._look_s, self._insist_at)
            self._look_s = min(self._look_s * 2, _LONGEST_LOOK_S)
            self._deadlines.add(at, self._look)


def _lives(identity: Identity) -> bool:
    process = read_process(identity[0])
    return process is not None and process.start_time == identity[1] and process.is_alive


def _with_descendants(wards: Sequence[Identity]) -> list[Identity]:
    snapshot = read_processes()
    tree = {pid for pid, start_time in wards if _lives((pid, start_time))}
    # Pids may wrap, so parents need not come first: repeat until nothing is added.
    while True:
        more = {process.pid for process in snapshot.values() if process.ppid in tree} - tree
        if not more:
            return [snapshot[pid].identity for pid in tree if pid in snapshot]
        tree |= more

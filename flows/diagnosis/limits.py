"""How many processes and files the system lets this user have at a time."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from backends.process_tree import read_processes
from flows.diagnosis.cgroup_paths import pids_limits
from flows.diagnosis.examination import Examination
from flows.diagnosis.finding import Finding, ok, problem, warning
from flows.diagnosis.processes import owner_of
from flows.run_settings import default_parallelism

_FEW_FILES = 256
_TOO_FEW_FILES = 64
_COMFORTABLE_TREE = 32
"""So many processes has a job that runs a build or a simulator of its own."""


class Room(NamedTuple):
    """How many more processes one limit admits."""

    name: str
    limit: int
    used: int
    remedy: str

    @property
    def left(self) -> int:
        """How many more there may be."""
        return max(0, self.limit - self.used)


def check_limits(_examination: Examination) -> Iterator[Finding]:
    """Look at open files and at every limit on processes that applies here."""
    yield open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))
    rooms = list(_rooms())
    if rooms:
        yield processes(rooms, default_parallelism())


def open_files(soft: int, hard: int) -> Finding:
    """Judge the limit on open files; -1 is none."""
    if soft == resource.RLIM_INFINITY:
        return ok("open files", "no limit (RLIMIT_NOFILE)")
    most = "no limit" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    message = f"{soft:,} for each process (RLIMIT_NOFILE; {most} if raised); jobs inherit it"
    advice = f"raise it: ulimit -n {min(4096, hard) if hard > 0 else 4096}"
    if soft < _TOO_FEW_FILES:
        return problem("open files", message, advice)
    if soft < _FEW_FILES:
        return warning("open files", message, advice)
    return ok("open files", message)


def processes(rooms: list[Room], parallel: int) -> Finding:
    """Judge how many more processes there may be, by the limit that leaves the least.

    ``parallel`` is how many jobs run at a time when nobody says.
    """
    least = min(rooms, key=lambda room: room.left)
    message = (
        f"{least.left:,} more, so at most as many jobs at a time ({least.name} is "
        f"{least.limit:,}, {least.used:,} in use); {parallel} run at a time by default"
    )
    if least.left < 2 * parallel:
        return problem("processes", message, least.remedy)
    if least.left < _COMFORTABLE_TREE * parallel:
        return warning("processes", message, least.remedy)
    return ok("processes", message)


def _rooms() -> Iterator[Room]:
    tasks = _tasks_of_everybody()
    for file in ("threads-max", "pid_max"):
        limit = _number_in(Path("/proc/sys/kernel", file))
        if limit is not None and tasks is not None:
            yield Room(f"kernel.{file}", limit, tasks, f"raise it: sysctl kernel.{file}=…")
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    # The kernel does not hold root to it.
    if soft != resource.RLIM_INFINITY and os.getuid() != 0:
        yield Room("RLIMIT_NPROC", soft, _own_tasks(), "raise it: ulimit -u …")
    for path, limit, used in pids_limits():
        remedy = f'raise it in "{path}", for example as TasksMax of the systemd unit'
        yield Room("pids.max of the cgroup", limit, used, remedy)


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _tasks_of_everybody() -> int | None:
    """Return how many threads there are on this host."""
    try:
        running_of_all = Path("/proc/loadavg").read_text(encoding="ascii").split()[3]
        return int(running_of_all.partition("/")[2])
    except (OSError, ValueError, IndexError):
        return None


def _own_tasks() -> int:
    own = os.getuid()
    everybody = read_processes().values()
    return sum(process.threads for process in everybody if owner_of(process.pid) == own)

"""Processes as the kernel tells them: snapshots, identities, marks, and signals that hit.

A pid alone is recycled; a pid with its start time is not, so everything that is kept or
signalled here is such a pair.  The keeper imports this file, so it needs the standard library
alone; where there is no ``/proc`` (macOS) ``psutil`` stands in, without numbers and environments.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

HAS_PROC = os.path.exists("/proc/self/stat")  # noqa: PTH110 - pathlib would slow the keeper's start

_NEWEST = 8

Identity = tuple[int, int]
"""A pid and its start time."""


class Process(NamedTuple):
    """One process at one moment."""

    pid: int
    ppid: int
    pgrp: int
    session: int
    state: str
    """The kernel's letter; ``Z`` and ``X`` are dead unless threads live on."""
    threads: int
    start_time: int
    """In clock ticks since boot, as in ``/proc/<pid>/stat``."""

    @property
    def identity(self) -> Identity:
        """What tells this process from any other of this boot."""
        return self.pid, self.start_time

    @property
    def is_alive(self) -> bool:
        """Whether anything of it still runs.

        A process whose first thread has ended reads as a zombie while its other threads go on.
        """
        return self.state not in "ZX" or self.threads > 1


Snapshot = Mapping[int, Process]
"""All processes of this host, by pid."""


def read_process(pid: int) -> Process | None:
    """Return what the process is now; ``None`` if there is none."""
    if not HAS_PROC:
        return _psutil_process(pid)
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        stat = os.read(descriptor, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(descriptor)
    if not stat:
        return None
    # The name, in parentheses, may hold spaces and parentheses: count from the last one.
    fields = stat[stat.rindex(b")") + 2 :].split(None, 20)
    return Process(
        pid,
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        fields[0].decode("ascii"),
        int(fields[17]),
        int(fields[19]),
    )


def read_processes() -> dict[int, Process]:
    """Return all processes of this host; raises ``OSError`` where no descriptor is free."""
    processes = {}
    for pid in _pids():
        process = read_process(pid)
        if process is not None:
            processes[pid] = process
    return processes


def _pids() -> list[int]:
    if HAS_PROC:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    import psutil

    return psutil.pids()


def _psutil_process(pid: int) -> Process | None:
    import psutil

    try:
        process = psutil.Process(pid)
        status = "Z" if process.status() == psutil.STATUS_ZOMBIE else "R"
        started = int(process.create_time() * 100)
        return Process(pid, process.ppid(), os.getpgid(pid), os.getsid(pid), status, 1, started)
    except (psutil.Error, OSError):
        return None


def process_name(pid: int) -> str:
    """Return the name the process gives itself, for messages; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as stream:  # noqa: PTH123
            return stream.read().strip().decode("utf-8", "replace")
    except OSError:
        return ""


def rss_limit(pid: int) -> int:
    """Return the soft ``RLIMIT_RSS`` of a process, where a run's number is carried.

    -1 (no limit) also for a process that is gone, belongs to another user, or cannot be asked.
    """
    import resource

    try:
        return resource.prlimit(pid, resource.RLIMIT_RSS)[0]
    except (OSError, AttributeError):
        return -1


def environment_value(pid: int, name: str) -> str | None:
    """Return a variable of the environment that the process was started with, if it is readable."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:  # noqa: PTH123
            environment = stream.read()
    except OSError:
        return None
    prefix = os.fsencode(name) + b"="
    for entry in environment.split(b"\0"):
        if entry.startswith(prefix):
            return os.fsdecode(entry[len(prefix) :])
    return None


def ancestors(snapshot: Snapshot, pid: int) -> set[int]:
    """Return the process and everything above it."""
    line = set()
    while pid and pid not in line:
        line.add(pid)
        process = snapshot.get(pid)
        pid = process.ppid if process else 0
    return line


def send_signal(identity: Identity, number: int) -> bool:
    """Signal exactly this process; whether it was there to get it.

    A process that took over the pid is never hit: the descriptor pins whom the pid means, and
    the start time is compared after that.  ``False`` too where the signal is not permitted.
    """
    pid, start_time = identity
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except (OSError, AttributeError):
        return _send_without_descriptor(identity, number)
    try:
        process = read_process(pid)
        if process is None or process.start_time != start_time:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        return False
    except OSError:
        return _send_without_descriptor(identity, number)
    finally:
        os.close(descriptor)
    return True


def _send_without_descriptor(identity: Identity, number: int) -> bool:
    """The next best way where there is no pidfd, or no descriptor is free."""
    try:
        process = read_process(identity[0])
        if process is not None and process.start_time != identity[1]:
            return False
        os.kill(identity[0], number)
    except OSError:
        return False
    return True


def newest_processes(is_wanted: Callable[[int], bool]) -> list[Process]:
    """Return those of the very newest processes of this host that live and are wanted.

    For a process that keeps forking and exiting: before a look at all processes is over, it has
    moved on, but the kernel tells the newest pid at once.
    """
    newest = _newest_pid()
    found = []
    for pid in range(newest, max(newest - _NEWEST, 1), -1):
        if is_wanted(pid):
            process = read_process(pid)
            if process is not None and process.is_alive:
                found.append(process)
    return found


def _newest_pid() -> int:
    """Return the pid that was given out last; 0 where the kernel does not tell."""
    try:
        with open("/proc/loadavg", "rb") as stream:  # noqa: PTH123
            return int(stream.read().split()[-1])
    except OSError:
        return 0


def send_group_signal(group: int, number: int) -> bool:
    """Signal a process group in one step that no fork of its members can slip through."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def whole_groups(members: Iterable[Process], snapshot: Snapshot) -> set[int]:
    """Return the process groups that hold members and nobody else."""
    inside = {process.pid for process in members}
    groups = {snapshot[pid].pgrp for pid in inside if pid in snapshot}
    shared = {process.pgrp for process in snapshot.values() if process.pid not in inside}
    return groups - shared - {0}

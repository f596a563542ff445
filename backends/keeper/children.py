"""The keeper's children: the jobs' first processes, and every orphan below them.

The keeper is a subreaper: a process whose parent dies is handed up to it, whatever session it
is in.  So a leader has left something behind if, and only if, an orphan of its job is here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from backends.process_tree import Process, read_process, read_processes


class Exit(NamedTuple):
    """A child that was reaped."""

    pid: int
    status: int
    cpu_s: float
    max_rss_bytes: int


_RSS_UNIT_BYTES = 1 if os.uname().sysname == "Darwin" else 1024


def reap() -> list[Exit]:
    """Reap every child that has ended; never waits."""
    exits = []
    try:
        while True:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                break
            cpu_s = usage.ru_utime + usage.ru_stime
            exits.append(Exit(pid, status, cpu_s, usage.ru_maxrss * _RSS_UNIT_BYTES))
    except ChildProcessError:
        pass
    return exits


class Orphans:
    """The children that are no job's first process, each with its job.

    ``job_of`` tells the job of an orphan; ``is_ours`` which children the keeper started itself.
    """

    def __init__(self, job_of: Callable[[Process], int], is_ours: Callable[[int], bool]) -> None:
        self._job_of = job_of
        self._is_ours = is_ours
        self._jobs: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        # Held open: it must be readable also when no descriptor is free.
        self._children = _open_children()

    def gone(self, pid: int) -> int | None:
        """An orphan was reaped; return the job whose last one it was, if it was that."""
        job = self._jobs.pop(pid, None)
        if job is None:
            return None
        self._counts[job] -= 1
        if self._counts[job]:
            return None
        del self._counts[job]
        return job

    def look(self) -> list[tuple[int, int]]:
        """Return the living orphans that were not here before, as pid and job number."""
        arrived = []
        for pid in self._pids():
            if pid in self._jobs or self._is_ours(pid):
                continue
            process = read_process(pid)
            if process is not None and process.is_alive:
                job = self._job_of(process)
                self._jobs[pid] = job
                self._counts[job] = self._counts.get(job, 0) + 1
                arrived.append((pid, job))
        return arrived

    def any_of(self, job: int) -> bool:
        """Whether an orphan of this job is here."""
        return job in self._counts

    def _pids(self) -> list[int]:
        if self._children is not None:
            text = b""
            while part := os.pread(self._children, 1 << 16, len(text)):
                text += part
            return [int(pid) for pid in text.split()]
        # A kernel that does not list the children of a process: look at everybody.
        own = os.getpid()
        return [process.pid for process in read_processes().values() if process.ppid == own]


def _open_children() -> int | None:
    pid = os.getpid()
    try:
        return os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None

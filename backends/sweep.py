"""Ending what a run left behind when its keeper is not there to do it.

A sweep goes by the run's number and its directory, so it needs no list of pids and cannot hit
a recycled one, nor the processes of a run beside it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from backends.members import Members, all_of
from backends.process_tree import ancestors, process_name, read_processes
from backends.run_cgroup import RunCgroup
from backends.tree_killer import WHOLE_RUN, Ending, TreeKiller
from tasks.process_identity import boot_id as this_boot

_LONGEST_NAP_S = 0.1


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep did."""

    ended: int
    """How many processes of the run there were."""
    stuck: tuple[str, ...]
    """Those that outlived SIGKILL, as ``pid (name)``."""


def strays_of_run(
    number: int, run: str, *, directory: Path | None = None, since: int = 0
) -> list[str]:
    """Return the living processes of a run as ``pid (name)``; ends nobody."""
    members = _members(number, run, directory, since)
    strays = all_of(members.survey(read_processes()))
    return [f"{process.pid} ({process_name(process.pid)})" for process in strays]


def sweep_run(
    number: int,
    run: str,
    *,
    directory: Path | None = None,
    since: int = 0,
    boot_id: str | None = None,
    cgroup: str | None = None,
    grace_s: float = 2.0,
) -> Sweep:
    """End every process of a run whose keeper is dead, this process's own line excepted.

    ``number`` is the run's number, ``run`` its name, ``directory`` its directory: the sharper
    mark.  ``since`` is the keeper's start time and ``boot_id`` its boot, where they are known:
    what started earlier is no member, and after a reboot there is none.  ``grace_s`` lies
    between SIGTERM and SIGKILL.  Returns when nobody is left, or those that outlived SIGKILL
    are named.
    """
    if boot_id and boot_id != this_boot():
        return Sweep(0, ())
    group = RunCgroup.of_run(cgroup, number) if cgroup else None
    if group is not None and group.holds_this_process():
        group = None
    killer = TreeKiller(
        _members(number, run, directory, since),
        last_resort=lambda: None if group is None else group.kill(),
    )
    killer.begin(WHOLE_RUN, None, grace_s)
    ending = _run_to_the_end(killer)
    if group is not None:
        group.remove()
    return Sweep(len(ending.seen), tuple(ending.stuck))


def _members(number: int, run: str, directory: Path | None, since: int) -> Members:
    # A run that is swept from inside one of its own jobs must not end the one who sweeps.
    mine = ancestors(read_processes(), os.getpid())
    jobs_directory = None if directory is None else str(directory.absolute() / "jobs")
    return Members(number, jobs_directory=jobs_directory, run=run, since=since, never=mine)


def _run_to_the_end(killer: TreeKiller) -> Ending:
    while True:
        for ending in killer.step():
            return ending
        due = killer.next_at()
        if due is not None:
            # Those who end here are no children of ours, so nothing tells when they do.
            time.sleep(max(0.0, min(due - time.monotonic(), _LONGEST_NAP_S)))

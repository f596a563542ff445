"""Processes that carry a run's number although nobody leads that run any more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backends.process_tree import (
    Process,
    Snapshot,
    process_name,
    read_process,
    rss_limit,
)
from backends.sweep import sweep_run
from flows.diagnosis.examination import Examination, UnsettledError
from flows.diagnosis.finding import Finding, ok, problem, warning
from flows.diagnosis.known_runs import KnownRun, KnownRuns
from flows.diagnosis.processes import command_text, line_above, owner_of
from flows.run_directory import RunFile
from tasks.process_number import run_number_of

_SHOWN = 20
"""So many processes of one run are named; a thousand lines help nobody."""


@dataclass(frozen=True, slots=True)
class Strays:
    """The processes that one run left behind."""

    number: int
    run: KnownRun | None
    """``None`` where no run of that number is known."""
    processes: Sequence[Process]

    @property
    def whose(self) -> str:
        """Say which run it was, and why nobody sees to it."""
        if self.run is None:
            return f"run number {self.number:x}, which nobody knows"
        file = RunFile.read(self.run.directory) or self.run.file
        if file.status.is_end:
            return f"run {file.run}, which is over ({file.status.value})"
        return f"run {file.run}, whose driver and keeper are dead"


def check_strays(examination: Examination) -> Iterator[Finding]:
    """Name every process that a dead run left behind; with ``fix`` end them."""
    snapshot = examination.processes()
    # The processes first, then who leads: a run that starts in between is not taken for dead.
    carriers = _carriers(snapshot)
    runs = KnownRuns(examination.runs if examination.runs_answer else None, snapshot)
    found = False
    for number, processes in carriers.items():
        if runs.is_led(number, processes):
            continue
        found = True
        strays = Strays(number, runs.find(number, processes), processes)
        yield from _judge(strays, snapshot, examination)
    if not found:
        yield ok("processes", "none carries the number of a run that is over, dead or unknown")


def _carriers(snapshot: Snapshot) -> dict[int, list[Process]]:
    """Return the processes that carry a number, by run; this process's own line is left out."""
    mine = {process.pid for process in line_above(snapshot, os.getpid())}
    carriers: dict[int, list[Process]] = {}
    for process in snapshot.values():
        number = run_number_of(rss_limit(process.pid))
        if number is not None and process.is_alive and process.pid not in mine:
            carriers.setdefault(number, []).append(process)
    return carriers


def _judge(strays: Strays, snapshot: Snapshot, examination: Examination) -> Iterator[Finding]:
    named = {process: command_text(process.pid) for process in strays.processes}
    whose, out_of_reach = strays.whose, _out_of_reach(strays, snapshot)
    if examination.fix and not out_of_reach:
        yield from _settled(strays, examination)
        _sweep(strays)
        yield from _ended(named, whose)
        return
    advice = out_of_reach or "end it: python -m flows.run doctor --fix"
    level = warning if out_of_reach else problem
    for process, command in list(named.items())[:_SHOWN]:
        yield level(f"process {process.pid}", f"`{command}` of {whose}", advice)
    if len(named) > _SHOWN:
        yield level("processes", f"{len(named) - _SHOWN:,} more of {whose}", advice)


def _out_of_reach(strays: Strays, snapshot: Snapshot) -> str:
    """Return who else sees to these processes, so that they are not for us to end."""
    for process in strays.processes:
        # Slurm hands limits on to the nodes: the run may be led from another host.
        if any(_is_slurm(above.pid) for above in line_above(snapshot, process.pid)):
            return "Slurm started it: scancel ends it"
        owner = owner_of(process.pid)
        if strays.run is None and owner not in (None, os.getuid()):
            return f"it belongs to user {owner}, who can end it: doctor --fix"
    return ""


def _is_slurm(pid: int) -> bool:
    return process_name(pid).startswith("slurmstepd")


def _settled(strays: Strays, examination: Examination) -> Iterator[Finding]:
    """Give the run its end, if it is known and has none; tell only where that fails."""
    if strays.run is None:
        return
    directory = strays.run.directory
    try:
        examination.settle(directory)
    except UnsettledError as error:
        advice = f"see why: python -m flows.run settle {directory.name} --runs {directory.parent}"
        yield problem(directory.name, str(error), advice)


def _sweep(strays: Strays) -> None:
    """End what is left; settling a run that had its end already has ended nobody."""
    if strays.run is None:
        sweep_run(strays.number, "")
    else:
        sweep_run(strays.number, strays.run.file.run, directory=strays.run.directory)


def _ended(named: dict[Process, str], whose: str) -> Iterator[Finding]:
    left = {process for process in named if _is_there(process)}
    for process in left:
        message = f"`{named[process]}` of {whose} could not be ended"
        advice = f"it may be stuck in the kernel: ps -o stat,wchan {process.pid}"
        yield problem(f"process {process.pid}", message, advice)
    gone = [process for process in named if process not in left]
    for process in gone[:_SHOWN]:
        yield warning(f"process {process.pid}", f"`{named[process]}` of {whose}: ended")
    if len(gone) > _SHOWN:
        yield warning("processes", f"{len(gone) - _SHOWN:,} more of {whose}: ended")


def _is_there(process: Process) -> bool:
    now = read_process(process.pid)
    return now is not None and now.identity == process.identity and now.is_alive

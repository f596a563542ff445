"""A place for ``doctor`` to look at, and real processes for it to find there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.waiting import wait_for

from backends.process_tree import (
    Process,
    ancestors,
    process_name,
    read_process,
    read_processes,
    rss_limit,
)
from flows.diagnosis.examination import Examination
from flows.diagnosis.finding import Finding, Level
from flows.run_directory import RunFile
from tasks.process_identity import ProcessIdentity
from tasks.process_number import carried_number
from tasks.status import RunStatus

# Takes on a number, as a keeper's child does, and becomes the program.
_CARRY = """
import os, resource, sys
number, command = int(sys.argv[1]), sys.argv[2:]
resource.setrlimit(resource.RLIMIT_RSS, (number, resource.getrlimit(resource.RLIMIT_RSS)[1]))
os.execvp(command[0], command)
"""

# The same, in a session of its own, without environment, and with nobody left who started it.
_CARRY_ALONE = """
import os, resource, sys
number, command = int(sys.argv[1]), sys.argv[2:]
resource.setrlimit(resource.RLIMIT_RSS, (number, resource.getrlimit(resource.RLIMIT_RSS)[1]))
child = os.fork()
if child:
    print(child, flush=True)
    os._exit(0)
os.setsid()
os.closerange(0, 64)
os.execve("/bin/" + command[0], command, {})
"""


class Examined:
    """A folder of runs with a state folder of its own; what it starts ends with the test.

    Only this test's processes are shown to the checks: a machine may be running other tests,
    whose processes are not this test's to judge, much less to end.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.runs = place / "runs"
        self.runs.mkdir()
        self._children: list[subprocess.Popen[bytes]] = []
        self._others: list[ProcessIdentity] = []

    # -- what there is to find -------------------------------------------------------------

    def run(self, name: str = "run", *, folder: Path | None = None, **fields: Any) -> RunFile:
        """Write the ``run.json`` of a run; ``fields`` as in ``RunFile``."""
        directory = (folder or self.runs) / name
        (directory / "jobs").mkdir(parents=True)
        given = {"status": RunStatus.RUNNING, "started_at": time.time(), **fields}
        file = RunFile(run=name, name="test", **given)
        file.write(directory)
        return file

    def carrier(
        self, run_number: int, *command: str, environment: dict[str, str] | None = None
    ) -> int:
        """Start a process that carries a run's number; returns its pid."""
        command = command or ("sleep", "3600")
        carried = carried_number(run_number, 1)
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CARRY, str(carried), *command],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
        self._children.append(child)
        wait_for(lambda: process_name(child.pid) == Path(command[0]).name, f"{command} to start")
        assert rss_limit(child.pid) == carried
        return child.pid

    def lone_carrier(self, run_number: int) -> int:
        """The same for one that has shed its session, environment, descriptors and parent."""
        carried = carried_number(run_number, 1)
        told = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _CARRY_ALONE, str(carried), "sleep", "3600"],
            stdout=subprocess.PIPE,
            check=True,
        )
        pid = int(told.stdout)
        identity = ProcessIdentity.of(pid)
        assert identity is not None
        self._others.append(identity)
        wait_for(lambda: process_name(pid) == "sleep", "the lone process to start")
        return pid

    def adopt(self, pid: int) -> None:
        """Show a process that something else started, and end it with the test."""
        identity = ProcessIdentity.of(pid)
        assert identity is not None
        self._others.append(identity)

    # -- what the checks see ---------------------------------------------------------------

    def processes(self) -> dict[int, Process]:
        """Return this test's processes, and those above it."""
        everybody = read_processes()
        seen = ancestors(everybody, os.getpid()) | {other.pid for other in self._others}
        ours = {os.getpid(), *seen - ancestors(everybody, os.getpid())}
        while more := {p.pid for p in everybody.values() if p.ppid in ours} - ours:
            ours |= more
        return {pid: everybody[pid] for pid in seen | ours if pid in everybody}

    def examination(self, **fields: Any) -> Examination:
        """Return what the checks are given."""
        given = {"runs": self.runs, "checkpoint": self.runs / ".checkpoint", **fields}
        return Examination(**given)

    def close(self) -> None:
        """End what was started here and is still alive."""
        for child in self._children:
            child.kill()
            child.wait()
        for other in self._others:
            if other.is_alive():
                os.kill(other.pid, 9)


def is_alive(pid: int) -> bool:
    """Whether the process does anything any more."""
    process = read_process(pid)
    return process is not None and process.is_alive


def a_dead_process() -> ProcessIdentity:
    """Return the identity of a process that has ended."""
    with subprocess.Popen(["sleep", "3600"]) as process:
        identity = ProcessIdentity.of(process.pid)
        process.kill()
    assert identity is not None
    return identity


def of_level(level: Level, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is level]


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Iterator[Examined]:
    """A place of its own, with a path that is short enough for sockets."""
    place = Path(tempfile.mkdtemp(prefix="hf-", dir="/tmp"))
    found = Examined(place)
    (place / "tmp").mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    monkeypatch.setenv("PREFECT_HOME", str(place / "prefect"))
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
    monkeypatch.setattr("flows.diagnosis.examination.read_processes", found.processes)
    yield found
    found.close()
    shutil.rmtree(place, ignore_errors=True)

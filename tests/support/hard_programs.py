"""Programs that are hard to end, and how to find what is left of them.

They are built from ``hard_programs.c`` once; each test gets a copy of its own, so that whatever
runs that copy was started by that test, wherever it hides.  Two more are written in Python and
run by a copy of the interpreter.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from support.waiting import wait_for

SOURCE = Path(__file__).with_name("hard_programs.c")


@dataclass(frozen=True)
class HardProgram:
    """One program: what it is called with, how many processes it becomes, whether it obeys."""

    mode: str
    processes: int
    obeys_sigterm: bool
    argument: str = ""

    def __str__(self) -> str:
        return self.mode


HARD_PROGRAMS = (
    HardProgram("sleepers", 10, True, "9"),
    HardProgram("new-session", 3, True),
    HardProgram("double-fork", 2, True),
    HardProgram("bare-double-fork", 2, True),
    HardProgram("stopped", 3, True),
    HardProgram("renamed", 2, True),
    HardProgram("shed", 3, True),
    HardProgram("ignores-sigterm", 3, False),
    HardProgram("forks-on-sigterm", 2, False),
    HardProgram("fork-loop", 40, False),
    HardProgram("comet", 2, False),
    HardProgram("headless", 2, False),
)

PYTHON_FORKS_ON_SIGTERM = """
import os, signal
def fork_again(*_):
    if os.fork() == 0:
        os.setsid()
signal.signal(signal.SIGTERM, fork_again)
os.fork()
while True:
    signal.pause()
"""

PYTHON_DOUBLE_FORK_WITHOUT_ENVIRONMENT = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 64)
        again = [sys.executable, "-c", "import time; time.sleep(3600)"]
        os.execve(sys.executable, again, {"PYTHONHOME": os.environ["PYTHONHOME"]})
    os._exit(0)
time.sleep(3600)
"""


@cache
def _built() -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        if os.environ.get("CI"):
            raise RuntimeError("the tests of killing need a C compiler; install one")
        pytest.skip("there is no C compiler")
    folder = Path(mkdtemp(prefix="hard-programs-"))
    program = folder / "hard"
    subprocess.run(
        [compiler, "-O1", "-Wall", "-o", program, SOURCE, "-lpthread"], check=True, timeout=60
    )
    return program


class Marked:
    """An executable of one test's own; its processes are found by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._link = os.fsencode(path)

    def pids(self) -> list[int]:
        """Return the processes that run it and are no zombies, by nothing they can change."""
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and self._runs(name)]

    def gone(self) -> bool:
        """Whether nobody runs it, not even one that forks and exits without a pause."""
        return not self.pids() and not any(self._among_newest() for _ in range(300))

    def _among_newest(self) -> int | None:
        newest = int(Path("/proc/loadavg").read_text().split()[-1])
        return next((pid for pid in range(newest, newest - 4, -1) if self._runs(str(pid))), None)

    def _runs(self, name: str) -> bool:
        try:
            tasks = os.listdir(f"/proc/{name}/task")
        except OSError:
            return False
        # A process whose first thread has ended has no executable; its other threads have.
        return any(self._is_marked(f"/proc/{name}/task/{task}/exe") for task in tasks)

    def _is_marked(self, link: str) -> bool:
        try:
            return os.readlink(os.fsencode(link)) == self._link
        except OSError:
            return False

    def wait_for(self, count: int) -> list[int]:
        """Return the processes once there are so many."""
        return wait_for(
            lambda: pids if len(pids := self.pids()) >= count else None,
            f"{count} processes run {self.path.name}; now {len(self.pids())} do",
        )

    def end(self) -> None:
        """Kill what is left, whatever it does; for the end of a test that failed."""
        deadline = time.monotonic() + 20
        while not self.gone():
            assert time.monotonic() < deadline, f"{self.path} cannot be ended"
            for pid in (*self.pids(), *filter(None, (self._among_newest() for _ in range(100)))):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


@contextmanager
def marked_program(folder: Path) -> Iterator[Marked]:
    """Give a copy of the hard programs; whatever still runs it at the end is killed."""
    path = folder / f"hard-{os.urandom(4).hex()}"
    shutil.copy2(_built(), path)
    marked = Marked(path.resolve())
    try:
        yield marked
    finally:
        marked.end()


@contextmanager
def marked_python(folder: Path) -> Iterator[Marked]:
    """Give a copy of the interpreter; it needs ``python_environment()``."""
    path = folder / f"python-{os.urandom(4).hex()}"
    shutil.copy2(Path(sys.executable).resolve(), path)
    marked = Marked(path.resolve())
    try:
        yield marked
    finally:
        marked.end()


def python_environment() -> dict[str, str]:
    """Return what a copied interpreter needs to find its library."""
    environment = {"PYTHONHOME": sys.base_prefix}
    library = sysconfig.get_config_var("LIBDIR")
    if library:
        environment["LD_LIBRARY_PATH"] = str(library)
    return environment


def wait_until_ready(log: Path, timeout_s: float = 30.0) -> None:
    """Return when the leader has said in its log that its whole tree has found its place."""
    wait_for(lambda: log.exists() and b"ready" in log.read_bytes(), f"{log} says ready", timeout_s)


def zombies_below(pid: int) -> list[int]:
    """Return the dead children of a process that it has not fetched."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text(errors="replace")
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == pid:
                found.append(int(name))
    return found

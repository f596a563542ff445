"""The cgroup of a run: the last resort that no process slips away from.

Where cgroup v2 is writable each run has one; the keeper stands in it while it starts jobs, so
that they are born in it.  It steps out before the cgroup is killed or frozen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

HIDE_VARIABLE = "HOLDFAST_NO_CGROUP"
"""Set to anything, it makes the engine do without cgroups; for tests."""

_PREFIX = "holdfast-"
_FREEZE_PATIENCE_S = 0.1
_LOOK_S = 0.001


class RunCgroup:
    """One cgroup v2, by its path; every method does nothing where the kernel refuses."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def create(cls, run_number: int) -> RunCgroup | None:
        """Make the run's cgroup below this process's own; ``None`` where that is impossible."""
        if os.environ.get(HIDE_VARIABLE):
            return None
        own = own_cgroup()
        if own is None:
            return None
        cgroup = cls(f"{own}/{_PREFIX}{run_number:x}")
        try:
            os.mkdir(cgroup.path)  # noqa: PTH102
        except FileExistsError:
            pass
        except OSError:
            return None
        return cgroup if cgroup.enter() else None

    @classmethod
    def of_run(cls, path: str, run_number: int) -> RunCgroup | None:
        """Return the cgroup at ``path`` if it is this run's, by its name and kind."""
        right = os.path.basename(path) == f"{_PREFIX}{run_number:x}"  # noqa: PTH119
        return cls(path) if right and os.path.exists(f"{path}/cgroup.procs") else None  # noqa: PTH110

    def enter(self) -> bool:
        """Move this process in; whether that worked."""
        return _write(f"{self.path}/cgroup.procs", str(os.getpid()))

    def leave(self) -> bool:
        """Move this process to the cgroup above; whether it is out."""
        return _write(f"{os.path.dirname(self.path)}/cgroup.procs", str(os.getpid()))  # noqa: PTH120

    def holds_this_process(self) -> bool:
        """Whether this process stands in it or below it."""
        own = own_cgroup() or ""
        return f"{own}/".startswith(f"{self.path}/")

    def kill(self) -> None:
        """End everything in it at once; never called by a process that stands in it."""
        _write(f"{self.path}/cgroup.kill", "1")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold everything in it still; this process stays out of it from now on."""
        if not self.leave():
            yield
            return
        _write(f"{self.path}/cgroup.freeze", "1")
        try:
            self._wait_until_frozen()
            yield
        finally:
            _write(f"{self.path}/cgroup.freeze", "0")
            self.enter()

    def remove(self) -> None:
        """Remove it and what runs inside jobs left below it; it stays while somebody is in it."""
        for folder, _, _ in os.walk(self.path, topdown=False):
            try:
                os.rmdir(folder)  # noqa: PTH106
            except OSError:
                pass

    def _wait_until_frozen(self) -> None:
        # The kernel gives no event that a descriptor could wait for without inotify; freezing
        # takes microseconds, and a process that cannot freeze now is met in the next round.
        end = time.monotonic() + _FREEZE_PATIENCE_S
        while time.monotonic() < end:
            if b"frozen 1" in _read(f"{self.path}/cgroup.events"):
                return
            time.sleep(_LOOK_S)


def own_cgroup() -> str | None:
    """Return the folder of this process's cgroup v2, wherever v2 is mounted."""
    mount = next(
        (
            fields[1].decode()
            for line in _read("/proc/self/mounts").splitlines()
            if (fields := line.split())[2:3] == [b"cgroup2"]
        ),
        None,
    )
    if mount is None:
        return None
    for line in _read("/proc/self/cgroup").splitlines():
        if line.startswith(b"0::"):
            return mount + os.fsdecode(line[3:]).rstrip("/")
    return None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123
            return stream.read()
    except OSError:
        return b""


def _write(path: str, text: str) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, text.encode())
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True

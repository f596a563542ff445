"""A keeper that is started and ended to see whether runs will have one."""

from __future__ import annotations

import select
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from backends.keeper_process import KEEPER_FILE, KeeperConnection, KeeperError, start_keeper
from tasks.run_context import RunContext

END_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class KeeperProbe:
    """What a keeper showed; times are seconds, ``None`` where it did not get so far."""

    up_s: float | None = None
    ended_s: float | None = None
    error: str = ""
    """Why it did not come up."""
    cgroup: str | None = None
    """The cgroup that it could make for its run."""
    cgroup_kill: bool = False
    """Whether that cgroup can end all that is in it at once."""
    left: str = ""
    """What it left behind that it should have removed."""


def probe_keeper() -> KeeperProbe:
    """Start a keeper as a run does, wait for its answer, and end it as a run does."""
    with tempfile.TemporaryDirectory(prefix="holdfast-doctor-") as folder:
        directory = Path(folder)
        (directory / "jobs").mkdir()
        context = RunContext(run="doctor", directory=directory, cwd=directory)
        began = time.monotonic()
        try:
            connection, welcome = start_keeper(context)
        except (KeeperError, OSError) as error:
            return KeeperProbe(error=str(error))
        up_s = time.monotonic() - began
        cgroup = welcome.get("cgroup")
        kills = cgroup is not None and Path(cgroup, "cgroup.kill").exists()
        ended_s = end_keeper(connection)
        left = KEEPER_FILE if (directory / KEEPER_FILE).exists() else ""
        return KeeperProbe(up_s, ended_s, cgroup=cgroup, cgroup_kill=kills, left=left)


def end_keeper(connection: KeeperConnection) -> float | None:
    """Have the keeper leave; returns how long that took, ``None`` where it had to be killed."""
    began = time.monotonic()
    connection.send({"type": "close", "grace_s": 0.0})
    process = connection.process
    try:
        _wait_for_hang_up(connection, began + END_WITHIN_S)
        if process is not None:
            process.wait(max(0.0, began + END_WITHIN_S - time.monotonic()))
        return time.monotonic() - began
    except (TimeoutError, subprocess.TimeoutExpired):
        if process is not None:
            process.kill()
            process.wait()
        return None
    finally:
        connection.close()


def _wait_for_hang_up(connection: KeeperConnection, deadline: float) -> None:
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([connection.stream], [], [], left_s)
        if not ready:
            raise TimeoutError
        if connection.receive() is None:
            return

"""A driver in a process of its own, so that a test can kill it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.waiting import wait_for

from backends.keeper_process import KeeperFile

ROOT = Path(__file__).resolve().parents[2]


class Driver:
    """Runs ``driver_main`` with these jobs; ``run`` is the run's directory."""

    def __init__(self, folder: Path, jobs: list[dict[str, Any]], **options: Any) -> None:
        self.run = folder / options.get("context", {}).get("name", "run")
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "support.driver_main", str(folder)),
                json.dumps({"jobs": jobs, **options}),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**environment, **options.get("environment", {})},
            start_new_session=True,
        )

    def __enter__(self) -> Driver:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            raise AssertionError("the driver did not start; its error is above")
        file = KeeperFile.read(self.run)
        assert file is not None
        self.keeper_file = file
        self.keeper = file.identity
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.wait_until_keeper_is_gone()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill the driver and nobody else."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            if number == signal.SIGKILL:
                self.process.wait()

    def wait_until_keeper_is_gone(self, timeout_s: float = 20.0) -> None:
        wait_for(lambda: not self.keeper.is_alive(), "the keeper ends", timeout_s)

"""A Prefect server that lives as long as one run, for those who have none.

Prefect can start such a server by itself, as a child in the run's own process group: there
Ctrl-C in the terminal ends the server together with the run, and what it had not yet stored is
lost.  This one leads a session of its own, so it is there until the run has been reported.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from tasks.errors import HoldfastError

_UP_TIMEOUT_S = 120.0
"""The first start on an empty home migrates a database: 13 s on two idle cores."""
_LOOK_EVERY_S = 0.1
_STOP_TIMEOUT_S = 5.0

RECORD_IN_BATCHES = {
    # One transaction for each task run is Prefect's default: 8.6 ms of the machine's time for
    # each, against 3.5 ms, which the jobs would lack.  What fills no batch is written each second.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}


class ServerError(HoldfastError):
    """No Prefect server could be reached or started."""


@dataclass(slots=True)
class EphemeralServer:
    """A server process on a free port of the loopback interface."""

    process: subprocess.Popen[bytes]
    api_url: str

    @classmethod
    def start(cls) -> EphemeralServer:
        """Start the process; it answers only after ``wait_until_up``."""
        port = _free_port()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "--factory"),
                "prefect.server.api.server:create_app",
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--log-level", "error", "--lifespan", "on"),
            ],
            env={
                **RECORD_IN_BATCHES,
                **os.environ,
                "PREFECT_UI_ENABLED": "0",
                "PREFECT__SERVER_EPHEMERAL": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return cls(process, f"http://127.0.0.1:{port}/api")

    def wait_until_up(self) -> None:
        """Return when the server answers; raises ``ServerError`` when it ended or is too slow."""
        deadline = time.monotonic() + _UP_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerError(
                    f"the Prefect server ended with exit code {self.process.returncode}; "
                    "see why: prefect server start; or run without: --offline"
                )
            with contextlib.suppress(OSError, urllib.error.URLError):
                urllib.request.urlopen(f"{self.api_url}/health", timeout=5).close()  # noqa: S310
                return
            time.sleep(_LOOK_EVERY_S)
        raise ServerError(f"no Prefect server within {_UP_TIMEOUT_S:.0f} s; try --offline")

    def stop(self) -> None:
        """End the server and wait until it is gone.  Idempotent."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

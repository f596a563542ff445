"""A Prefect server, a work pool and a worker on this machine: ``make serve``.

    python -m flows.serve [--port PORT] [--home DIR] [--runs DIR]

Everything listens on loopback.  The flows of prefect.yaml are deployed to the pool; runs land in
``--runs``.  The first SIGINT or SIGTERM ends the worker, with the runs that it has started, and
then the server.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from flows.ephemeral_server import RECORD_IN_BATCHES
from flows.places import runs_directory
from tasks.errors import BusyError, HoldfastError

HOST = "127.0.0.1"
POOL = "holdfast"
PROJECT = Path(__file__).parents[1]

_UP_S = 120.0
"""The first start on an empty home migrates a database."""
_LOOK_EVERY_S = 0.5
_WORKER_STOP_S = 45.0
"""A worker ends its flow runs first: Prefect gives each 30 s."""
_SERVER_STOP_S = 10.0


class Service:
    """One child process in a session of its own, so that Ctrl-C reaches this process alone."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def stop(self, patience_s: float) -> None:
        """Ask it to end, insist after a while, return when it is gone.  Idempotent."""
        if self.has_ended:
            return
        self.process.terminate()
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(port: int, environment: Mapping[str, str], stop: threading.Event) -> None:
    """Run server and worker until ``stop`` is set or one of them ends.

    Raises ``BusyError`` where the port is taken and ``HoldfastError`` where a service ended by
    itself; then the others are ended too.
    """
    _check_port(port)
    services: list[tuple[Service, float]] = []
    try:
        server = Service("Prefect server", _server_command(port), environment)
        services.append((server, _SERVER_STOP_S))
        _wait_until_up(server, port, stop)
        if not stop.is_set():
            _prefect(environment, "work-pool", "create", POOL, "--type", "process", "--overwrite")
            _prefect(environment, "--no-prompt", "deploy", "--all")
            worker = Service("worker", _worker_command(), environment)
            services.append((worker, _WORKER_STOP_S))
            click.echo(_ready_text(port, environment["HOLDFAST_RUNS"]))
        _watch([service for service, _ in services], stop)
    finally:
        # The worker first: ending its runs takes a server that is told of it.
        for service, patience_s in reversed(services):
            service.stop(patience_s)


def environment_for(port: int, runs: Path, home: Path | None) -> dict[str, str]:
    """Return what server, worker and flows find in their environment."""
    api_url = f"http://{HOST}:{port}/api"
    return {
        **RECORD_IN_BATCHES,
        **os.environ,
        **({} if home is None else {"PREFECT_HOME": str(home)}),
        "PREFECT_API_URL": api_url,
        # Without it the page asks port 4200, whatever the port is.
        "PREFECT_SERVER_UI_API_URL": api_url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "HOLDFAST_HOME": str(PROJECT),
        "HOLDFAST_RUNS": str(runs),
    }


def _server_command(port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"),
        *("--host", HOST, "--port", str(port), "--log-level", "warning", "--lifespan", "on"),
    ]


def _worker_command() -> list[str]:
    return [
        *(sys.executable, "-m", "prefect", "worker", "start"),
        *("--pool", POOL, "--type", "process"),
    ]


def _prefect(environment: Mapping[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = "\n".join([done.stdout, done.stderr]).strip()[-2000:]
        raise HoldfastError(f'"prefect {" ".join(arguments)}" failed:\n{said}')


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise BusyError(
                f"port {port} of {HOST} is taken ({error.strerror}); is a server running already? "
                "--port takes another"
            ) from error


def _wait_until_up(server: Service, port: int, stop: threading.Event) -> None:
    deadline = time.monotonic() + _UP_S
    while not stop.is_set() and not _answers(port):
        if server.has_ended:
            raise HoldfastError("the Prefect server ended while it started; it says why above")
        if time.monotonic() > deadline:
            raise HoldfastError(f"the Prefect server did not answer within {_UP_S:.0f} s")
        stop.wait(_LOOK_EVERY_S)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/api/health", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def _watch(services: Sequence[Service], stop: threading.Event) -> None:
    while not stop.wait(_LOOK_EVERY_S):
        for service in services:
            if service.has_ended:
                code = service.process.returncode
                raise HoldfastError(f"the {service.name} ended by itself (exit code {code})")


def _ready_text(port: int, runs: str) -> str:
    example = PROJECT / "examples" / "regression" / "regression.yaml"
    return (
        f"\nPrefect's page   http://{HOST}:{port}\n"
        f"runs             {runs}\n"
        f"start one        export PREFECT_API_URL=http://{HOST}:{port}/api\n"
        f"                 {Path(sys.executable).parent}/prefect deployment run "
        f"job-dag/job-dag --param file={example}\n"
        "end              Ctrl-C\n"
    )


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=4200, show_default=True)
@click.option("--home", type=click.Path(path_type=Path), help="PREFECT_HOME of the server.")
@click.option("--runs", metavar="DIR", help="The folder of run directories.")
def cli(port: int, home: Path | None, runs: str | None) -> None:
    """Start a Prefect server, a work pool and a worker on loopback, and deploy the flows."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    home = None if home is None else home.absolute()
    try:
        serve(port, environment_for(port, runs_directory(runs), home), stop)
    except HoldfastError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    cli()

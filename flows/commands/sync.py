"""``sync``: send to the Prefect server what it has not got of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from flows.commands.options import places
from flows.history import find_run
from flows.prefect_access import prefect_server
from flows.reporting import report


@click.command("sync")
@click.argument("run", metavar="RUN")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="How long to wait without one more task run arriving.",
)
@places
def command(run: str, runs: Path, as_json: bool, wait_s: float) -> int:  # fmt: skip
    """Send what the Prefect server has not got of a run, and end its flow run there.

    Exit code 0 when the server has confirmed everything, 1 when something is missing.
    """
    past = find_run(runs, run)
    with prefect_server() as api_url:
        result = report(past.directory, past.file, api_url, wait_s=wait_s)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
    else:
        click.echo(
            f"{past.file.run}: {result.task_runs - result.missing:,} of {result.task_runs:,} task "
            f"runs are on the server; the flow run is {result.state}"
        )
    return 1 if result.missing else 0

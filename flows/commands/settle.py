"""``settle``: give runs whose process died their end."""

from __future__ import annotations

import json
from pathlib import Path

import click

from flows.commands.options import places
from flows.history import find_run, runs_in, settled
from flows.settle import is_dead, settle


@click.command("settle")
@click.argument("run", metavar="[RUN]", required=False)
@places
def command(run: str | None, runs: Path, as_json: bool) -> None:
    """Give a run whose process died its end, or all such runs of the folder.

    What still carries the run's number is ended first; then links, journal, run.json,
    results.json and the state in Prefect tell what happened.
    """
    if run is None:
        dead = [past for past in runs_in(runs) if is_dead(past.directory, past.file)]
        done = {past.file.run: settled(past).file.status.value for past in dead}
    else:
        directory = runs / run
        past = None if directory.is_dir() else find_run(runs, run)
        directory = past.directory if past else directory
        done = {directory.name: settle(directory).value}
    if as_json:
        click.echo(json.dumps(done))
        return
    for name, status in done.items():
        click.echo(f"{name}  {status}")
    if not done:
        click.echo("nothing to settle", err=True)

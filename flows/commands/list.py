"""``list``: the runs of a folder."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from flows.commands.options import places
from flows.commands.text import STATUS_COLOURS, counts_text, duration_text
from flows.history import PastRun, settled_runs


@click.command("list")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")
@click.option("--name", metavar="NAME", help="Only runs of this name.")
@places
def command(runs: Path, as_json: bool, last: int | None, name: str | None) -> None:
    """List the runs of a folder, oldest first.

    A run whose process died is ended and settled on the way, so nothing dead reads as running.
    """
    found = [run for run in settled_runs(runs) if name in (None, run.file.name)]
    if last is not None:
        found = found[-last:]
    if as_json:
        click.echo(json.dumps([run.file.to_json() for run in found], indent=2))
        return
    if not found:
        click.echo(f'no runs in "{runs}"; start one: python -m flows.run demo', err=True)
        return
    for run in found:
        click.echo(_line(run))


def _line(run: PastRun) -> str:
    file = run.file
    status = click.style(f"{file.status.value:9}", fg=STATUS_COLOURS[file.status])
    seconds = (file.ended_at or time.time()) - file.started_at
    duration = duration_text(seconds)
    return f"{status}  {run.directory.name}  {duration:>9}  {counts_text(file.counts)}".rstrip()

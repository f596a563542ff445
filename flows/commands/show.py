"""``show``: one run from its journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flows.commands.options import places
from flows.commands.text import JOB_COLOURS, STATUS_COLOURS, counts_text, duration_text
from flows.history import PastRun, find_run
from observers.results import results_of
from tasks.sanitise import one_line


@click.command("show")
@click.argument("run", metavar="RUN")
@click.option(
    "--all", "show_all", is_flag=True, help="Every job, not only those that did not pass."
)
@places
def command(run: str, runs: Path, as_json: bool, show_all: bool) -> None:
    """Show one run: its jobs, how they ended and why.

    RUN is a run's name, a unique beginning of it, or "last".
    """
    past = find_run(runs, run)
    results = results_of(past.directory)
    if as_json:
        click.echo(json.dumps({**past.file.to_json(), "jobs": results["jobs"]}, indent=2))
        return
    _head(past, results)
    jobs = [job for job in results["jobs"] if show_all or job["status"] != "passed"]
    for job in jobs:
        click.echo(_line(job))
    hidden = len(results["jobs"]) - len(jobs)
    if hidden:
        click.echo(f"and {hidden:,} that passed; --all lists them")


def _head(past: PastRun, results: dict[str, Any]) -> None:
    file = past.file
    click.echo(click.style(file.status.value, fg=STATUS_COLOURS[file.status], bold=True), nl=False)
    click.echo(f"  {file.run}  {counts_text(results['counts'])}")
    click.echo(f"  directory  {past.directory}")
    if file.flow_run_id:
        click.echo(f"  flow run   {file.flow_run_id}")
    if file.resumed_from:
        click.echo(f"  resumed    {file.resumed_from}")


def _line(job: dict[str, Any]) -> str:
    status = click.style(f"{job['status']:9}", fg=JOB_COLOURS.get(job["status"]))
    cause = f"  {one_line(job['cause']['message'])}" if job["cause"] else ""
    return f"{status}  {job['id']}  {duration_text(job['runtime_s'])}{cause}"

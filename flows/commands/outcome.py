"""How the commands that run something tell what became of it."""

from __future__ import annotations

import json

import click

from flows.run_summary import RunSummary
from observers.summary import summary_text


def tell_outcome(summary: RunSummary, *, as_json: bool) -> int:
    """Print the end of a run and return the exit code."""
    if as_json:
        click.echo(json.dumps(summary.to_json(), indent=2))
        return summary.exit_code
    click.echo(summary_text(summary.directory), err=True)
    for observer, error in summary.failed_observers.items():
        click.echo(f'observer "{observer}" failed and was switched off: {error}', err=True)
    if summary.unreported:
        click.echo(
            f"the Prefect server has not confirmed {summary.unreported:,} task runs; "
            f"send them: python -m flows.run sync {summary.run} --runs {summary.directory.parent}",
            err=True,
        )
    if summary.error:
        click.echo(f"error: {summary.error}", err=True)
    return summary.exit_code

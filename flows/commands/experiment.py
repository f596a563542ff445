"""``experiment``: run experiments, publish their results, show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flows.commands.options import run_options, settings_from
from flows.commands.outcome import tell_outcome
from flows.experiment_run import DEFAULT_N, DEFAULT_SEED, ExperimentRun
from flows.run_summary import RunSummary
from flows.started import run_from_terminal
from tasks.experiment import DEFAULT_ROUNDS


@click.command("experiment")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--n",
    type=click.IntRange(min=1),
    default=DEFAULT_N,
    show_default=True,
    help="Cases of each experiment.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=DEFAULT_SEED,
    show_default=True,
    help="What the cases are made from.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=0),
    default=DEFAULT_ROUNDS,
    show_default=True,
    help="Repetitions for the speed; 0 measures accuracy alone.",
)
@click.option(
    "--suite",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A Python file with experiments of your own.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default=Path("results"),
    show_default=True,
    help="Where the results are published.",
)
@run_options
def command(
    names: tuple[str, ...], n: int, seed: int, rounds: int, suite: Path | None, results: Path,
    **options: Any,
) -> int:  # fmt: skip
    """Run experiments by NAME, or all of them, and publish what they completed."""
    run = ExperimentRun.prepared(
        names=names,
        n=n,
        seed=seed,
        rounds=rounds,
        suite=None if suite is None else str(suite.absolute()),
        results=results.absolute(),
    )
    return run_experiments(run, **options)


def run_experiments(
    run: ExperimentRun, *, runs: Path, as_json: bool, offline: bool, quiet: bool, **options: Any
) -> int:
    """Run, publish and show; returns the exit code."""
    chosen = settings_from(options, runs=runs, quiet=quiet, as_json=as_json)
    settings = run.with_settings(chosen)
    summary = run_from_terminal(
        "experiment", settings, run.jobs, settings.parameters, offline=offline
    )
    published = run.publish(summary)
    if as_json:
        _print_json(summary, published)
        return summary.exit_code
    code = tell_outcome(summary, as_json=False)
    if published is not None:
        _show(published)
    return code


def _print_json(summary: RunSummary, published: Path | None) -> None:
    from flows.publish import collect

    answer = summary.to_json()
    answer["published"] = None if published is None else collect(published).to_json()
    click.echo(json.dumps(answer, indent=2))


def _show(published: Path) -> None:
    from rich.console import Console

    from flows.experiment_table import failures_text, results_table
    from flows.publish import collect

    found = collect(published)
    console = Console()
    console.print(results_table(found))
    if found.failures:
        console.print(failures_text(found))
    click.echo(f"results  {published}")

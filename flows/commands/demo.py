"""``demo``: the experiments of the laboratory, with nothing to choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flows.commands.experiment import run_experiments
from flows.commands.options import run_options
from flows.experiment_run import DEFAULT_N, DEFAULT_SEED, ExperimentRun
from tasks.experiment import DEFAULT_ROUNDS


@click.command("demo")
@run_options
def command(**options: Any) -> int:
    """Measure how well astronomy libraries agree: every experiment of the laboratory."""
    run = ExperimentRun.prepared(
        names=(),
        n=DEFAULT_N,
        seed=DEFAULT_SEED,
        rounds=DEFAULT_ROUNDS,
        suite=None,
        results=Path("results").absolute(),
        name="demo",
    )
    return run_experiments(run, **options)

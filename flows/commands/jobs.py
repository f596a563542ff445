"""``jobs``: run the job graph of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flows.commands.options import run_options, settings_from
from flows.commands.outcome import tell_outcome
from flows.graph_run import parameters_of, settings_for
from flows.started import run_from_terminal
from tasks.dag_file import read_dag_file


@click.command("jobs")
@click.argument("file", metavar="FILE")
@run_options
def command(
    file: str, runs: Path, as_json: bool, offline: bool, quiet: bool, **options: Any
) -> int:
    """Run the job graph of FILE (YAML, TOML, JSON or JSON Lines; "-" is standard input).

    Exit code 0 when every job passed, 1 when one failed or was killed by its own limits,
    2 for bad input (nothing is started), 3 when another run holds the name.
    """
    graph = read_dag_file(file)
    settings = settings_for(graph, settings_from(options, runs=runs, quiet=quiet, as_json=as_json))
    parameters = parameters_of(settings, file=file)
    summary = run_from_terminal("job-dag", settings, graph.jobs, parameters, offline=offline)
    return tell_outcome(summary, as_json=as_json)

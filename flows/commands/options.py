"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from flows.places import runs_directory
from flows.run_settings import (
    DEFAULT_ADOPT_WITHIN_S,
    DEFAULT_REPORT_LIMIT,
    DEFAULT_REPORT_WAIT_S,
    RunSettings,
)

Command = TypeVar("Command", bound=Callable[..., Any])


def _runs(context: click.Context, parameter: click.Parameter, value: str | None) -> Path:
    return runs_directory(value)


def places(command: Command) -> Command:
    """Add ``--runs`` (handed on as an absolute ``Path``) and ``--json`` (as ``as_json``)."""
    command = click.option(
        "--json", "as_json", is_flag=True, help="Print JSON for programs to standard output."
    )(command)
    return click.option(
        "--runs",
        metavar="DIR",
        callback=_runs,
        help="The folder of run directories.  [default: $HOLDFAST_RUNS, else runs]",
    )(command)


_RUN_OPTIONS = [
    click.option("--max-parallel", type=click.IntRange(min=1), metavar="N", help="Jobs at a time."),
    click.option("--backend", metavar="NAME", help="Where jobs run; see: backends."),
    click.option("--fail-fast", is_flag=True, help="End the run at the first failure."),
    click.option("--grace", "grace_s", type=click.FloatRange(min=0), metavar="SECONDS",
                 help="Between SIGTERM and SIGKILL, for every job."),
    click.option("--on-crash", type=click.Choice(["kill", "keep"]), default="kill",
                 show_default=True, help="What becomes of the jobs when this process dies."),
    click.option("--adopt-within", "adopt_within_s", type=click.FloatRange(min=0),
                 metavar="SECONDS", default=DEFAULT_ADOPT_WITHIN_S, show_default=True,
                 help="How long kept jobs wait for the next start."),
    click.option("--wait", is_flag=True, help="Wait for another run of the name to end."),
    click.option("--offline", is_flag=True, help="Without Prefect: it is not even imported."),
    click.option("--report-wait", "report_wait_s", type=click.FloatRange(min=0),
                 metavar="SECONDS", default=DEFAULT_REPORT_WAIT_S, show_default=True,
                 help="How long the end waits for the Prefect server to confirm."),
    click.option("--report-limit", type=click.IntRange(min=0), metavar="N",
                 default=DEFAULT_REPORT_LIMIT, show_default=True,
                 help="Above so many jobs Prefect is told of groups."),
    click.option("--interval", "progress_interval_s", type=click.FloatRange(min=0),
                 metavar="SECONDS", help="Between two pictures of progress; 0: each change."),
    click.option("--quiet", "-q", is_flag=True, help="No progress display."),
]  # fmt: skip


def run_options(command: Command) -> Command:
    """Add what every command takes that runs something."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return places(command)


def settings_from(
    options: Mapping[str, Any], *, runs: Path, quiet: bool, as_json: bool, name: str = ""
) -> RunSettings:
    """Return the settings that the options of ``run_options`` say."""
    chosen = {key: value for key, value in options.items() if value is not None}
    # Programs that read JSON get nothing else; people get what suits their terminal.
    return RunSettings(name=name, runs=runs, progress=not (quiet or as_json), **chosen)

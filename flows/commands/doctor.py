"""``doctor``: is everything here that runs need, and is nothing left of dead ones?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from flows.commands.options import places
from flows.diagnosis.checks import diagnose
from flows.diagnosis.examination import Examination
from flows.diagnosis.finding import Finding, Level
from tasks.sanitise import one_line

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}
_LEVEL_WIDTH = max(map(len, Level))


@click.command("doctor")
@click.option("--fix", is_flag=True, help="End strays of dead runs; remove what is stale.")
@click.option("--offline", is_flag=True, help="Without importing Prefect.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder of checkpoints.  [default: .checkpoint in the folder of runs]",
)
@places
def command(runs: Path, as_json: bool, fix: bool, offline: bool, checkpoint: Path | None) -> int:
    """Say what is right and wrong with this machine, this installation and this folder of runs.

    A run whose process died is ended and settled on the way, as by list.  Living runs, of
    other folders and users too, are never touched.  Exit code 1 if there is a problem.
    """
    store = runs / ".checkpoint" if checkpoint is None else checkpoint.absolute()
    found = diagnose(Examination(runs, store, offline=offline, fix=fix))
    levels = _tell_as_json(found) if as_json else _tell(found)
    return 1 if levels[Level.PROBLEM] else 0


def _tell_as_json(found: Iterable[tuple[str, Finding]]) -> Counter[Level]:
    listed = list(found)
    levels = Counter(finding.level for _, finding in listed)
    answer = {
        "problems": levels[Level.PROBLEM],
        "warnings": levels[Level.WARNING],
        "findings": [_to_json(group, finding) for group, finding in listed],
    }
    click.echo(json.dumps(answer, indent=2))
    return levels


def _to_json(group: str, finding: Finding) -> dict[str, Any]:
    return {
        "check": group.lower(),
        "subject": finding.subject,
        "level": finding.level.value,
        "message": finding.message,
        "advice": finding.advice,
    }


def _tell(found: Iterable[tuple[str, Finding]]) -> Counter[Level]:
    """Print each finding as soon as it is known."""
    levels: Counter[Level] = Counter()
    last = ""
    for group, finding in found:
        if group != last:
            click.echo(click.style(group, bold=True))
            last = group
        levels[finding.level] += 1
        _print(finding)
    click.echo(_summary(levels))
    return levels


def _print(finding: Finding) -> None:
    level = click.style(f"{finding.level:{_LEVEL_WIDTH}}", fg=_COLOURS[finding.level])
    subject = click.style(one_line(finding.subject), bold=finding.level is not Level.OK)
    click.echo(f"  {level}  {subject}: {one_line(finding.message, 1000)}")
    if finding.advice:
        click.echo(" " * (_LEVEL_WIDTH + 6) + click.style(one_line(finding.advice, 1000), dim=True))


def _summary(levels: Counter[Level]) -> str:
    if levels[Level.PROBLEM]:
        colour, problems = "red", _count(levels[Level.PROBLEM], "problem")
    else:
        colour, problems = "green", "no problem"
    text = f"{problems}, {_count(levels[Level.WARNING], 'warning')}"
    return click.style(text, fg=colour, bold=True)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

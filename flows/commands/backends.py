"""``backends``: where jobs can run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from backends.registry import backend_names, load_backend
from flows.commands.options import places


@click.command("backends")
@places
def command(runs: Path, as_json: bool) -> None:
    """List the backends that jobs can name, those of installed packages too."""
    found = []
    for name in backend_names():
        try:
            summary = (load_backend(name).__doc__ or "").strip().partition("\n")[0]
        except Exception as error:  # noqa: BLE001 - a broken plug-in is told, not raised
            summary = f"cannot be loaded: {error}"
        found.append({"name": name, "summary": summary})
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for backend in found:
        click.echo(f"{backend['name']:10}  {backend['summary']}")

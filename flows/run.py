"""The command line: ``python -m flows.run COMMAND``; without a command, ``demo``."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from typing import Any

import click

from tasks.errors import HoldfastError, InputError

_COMMANDS = {
    "demo": "Run the astronomy experiments and show how well libraries agree.",
    "jobs": "Run the job graph of a file.",
    "experiment": "Run experiments by name, or those of a suite of your own.",
    "list": "List the runs of a folder.",
    "show": "Show one run: its jobs, their ends and causes.",
    "logs": "Print or follow the logs of a run.",
    "cancel": "End a run that is in progress.",
    "sync": "Send to the Prefect server what it has not got of a run.",
    "settle": "Give runs whose process died their end.",
    "backends": "List where jobs can run.",
    "doctor": "Check this machine, this installation and this folder of runs.",
}
"""Each command and its line of help; the code is in ``flows/commands/<name>.py``."""


class _LazyGroup(click.Group):
    """Loads a command's module when it is called: a start pays for one command only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"flows.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], _COMMANDS, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else "; see --help"
            raise click.UsageError(f'there is no command "{args[0]}"{hint}', ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="holdfast")
@click.pass_context
def cli(context: click.Context) -> None:
    """Run experiments and job graphs as real processes under Prefect.

    Nothing survives a stop; what was cancelled or crashed resumes where it stopped.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False  # for every command: they inherit it
    if context.invoked_subcommand is None:
        command = cli.get_command(context, "demo")
        if command is not None:
            context.invoke(command)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns its exit code, which FORMATS of the project lists."""
    logging.basicConfig(format="holdfast: %(message)s", level=logging.WARNING, stream=sys.stderr)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = cli.main(args=arguments, prog_name="python -m flows.run", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        return 130
    except HoldfastError as error:
        _show(error, as_json="--json" in arguments)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone (`… | head`); there is nobody to tell.
        sys.stderr.close()
        return 0
    return code if isinstance(code, int) else 0


def _show(error: HoldfastError, *, as_json: bool) -> None:
    if as_json:
        problems = error.problems if isinstance(error, InputError) else [str(error)]
        answer: dict[str, Any] = {"error": str(error), "problems": list(problems)}
        click.echo(json.dumps({**answer, "exit_code": error.exit_code}))
    click.echo(click.style("error: ", fg="red", bold=True) + str(error), err=True)


if __name__ == "__main__":
    sys.exit(main())

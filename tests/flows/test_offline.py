"""``--offline``: Prefect is not even imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import CommandLine

WITHOUT_PREFECT = """
import sys
sys.modules["prefect"] = None  # whoever imports it gets an ImportError
from flows.run import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs", "a.yaml", "--offline"],
        ["list"],
        ["show", "last"],
        ["logs", "last"],
        ["backends"],
        ["settle"],
    ],
)
def test_prefect_is_not_imported_where_it_is_not_needed(
    tmp_path: Path, arguments: list[str]
) -> None:
    cli = CommandLine(tmp_path)
    cli.write("a.yaml", "jobs: [{id: a, command: echo a}]")
    assert cli.run("jobs", "a.yaml", "--offline").code == 0
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PREFECT, *arguments],
        cwd=cli.place,
        env=cli.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr

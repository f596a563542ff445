"""The examples, and those that README.md shows, do what they are shown to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import CommandLine
from support.prefect_server import PrefectServer

from tasks.dag_file import read_dag_file

ROOT = Path(__file__).parents[1]
REGRESSION = ROOT / "examples" / "regression"
FORMATS = ("yaml", "toml", "json", "jsonl")
PAGE = (ROOT / "README.md").read_text()
README = dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))


@pytest.mark.parametrize("form", FORMATS)
def test_the_regression_is_the_same_graph_in_every_format(form: str) -> None:
    yaml = read_dag_file(str(REGRESSION / "regression.yaml"))
    other = read_dag_file(str(REGRESSION / f"regression.{form}"))
    assert [job.to_json() for job in other.jobs] == [job.to_json() for job in yaml.jobs]
    assert (other.name, other.resources, other.max_parallel) == (
        yaml.name,
        yaml.resources,
        yaml.max_parallel,
    )


@pytest.mark.parametrize("form", FORMATS)
def test_the_regression_runs_and_leaves_its_folder_as_it_was(form: str, tmp_path: Path) -> None:
    before = sorted(REGRESSION.iterdir())
    line = CommandLine(tmp_path)
    done = line.run("jobs", REGRESSION / f"regression.{form}", "--offline")
    assert done.code == 0, done.err
    run = line.only_run()
    assert run.results()["counts"] == {"passed": 22, "failed": 0, "killed": 0, "skipped": 0}
    assert b"20 histograms, 1200000 rolls" in run.log("merge")
    assert sorted(REGRESSION.iterdir()) == before


def test_the_graph_of_the_readme_ends_as_the_readme_says(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    done = line.run("jobs", line.write("tests.yaml", README["tests.yaml"]), "--offline")
    assert done.code == 1
    run = line.only_run()
    assert run.links()["failed"] == {"test-3"}
    assert run.jobs()["test-3"]["cause"]["message"] == "exit code 1"
    assert run.log("test-3") == b"seed 3\n"
    # Without the first line, whose counts depend on the moment, and the time that it took.
    said = re.sub(r"in [\d.]+ s", "in 0.04 s", done.err.replace(f"{tmp_path}/", "")).splitlines()
    page = PAGE.replace("2026-11-21_04-40-03-269945_tests", run.name)
    assert all(f"{each}\n" in page for each in said[-7:]), said


def run_flow(script: Path, server: PrefectServer, folder: Path) -> str:
    """Run a flow as a person would, and return the last line that it printed."""
    environment = {
        **server.environment,
        "HOLDFAST_RUNS": str(folder / "runs"),
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.prefect
def test_the_flow_of_the_readme_runs(prefect_server: PrefectServer, tmp_path: Path) -> None:
    script = tmp_path / "nightly.py"
    script.write_text(README["nightly.py"])
    assert run_flow(script, prefect_server, tmp_path) == "[0, 0, 0, 0]"


@pytest.mark.prefect
def test_the_example_flow_runs(prefect_server: PrefectServer, tmp_path: Path) -> None:
    script = ROOT / "examples" / "nightly_flow.py"
    assert run_flow(script, prefect_server, tmp_path) == "240000 rolls"

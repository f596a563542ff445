"""The DAG files in examples/ run and pass as they are, one for each format."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.command_line import CommandLine

EXAMPLES = Path(__file__).parents[2] / "examples"

# What each prints that only its last job, run after all others, can know.
LAST_WORDS = {
    "smoke.yaml": None,
    "resources.toml": ("done", b"all done\n"),
    "fan_out.json": ("sum", b"2262 primes below 20000\n"),
    "stream.jsonl": ("report", b"line number 6\n"),
}


@pytest.mark.parametrize("name", LAST_WORDS)
def test_an_example_runs_and_passes(name: str, tmp_path: Path) -> None:
    graph = Path(shutil.copy(EXAMPLES / name, tmp_path))  # what it builds lies beside it
    line = CommandLine(tmp_path)
    done = line.run("jobs", graph, "--offline")
    assert done.code == 0, done.err
    run = line.only_run()
    jobs = run.jobs()
    assert {job["status"] for job in jobs.values()} == {"passed"}
    last_words = LAST_WORDS[name]
    if last_words is not None:
        job, words = last_words
        assert words in run.log(job)  # of the stream example the order depends on the locale


def test_the_smoke_example_merges_the_logs_of_its_tests(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    assert line.run("jobs", shutil.copy(EXAMPLES / "smoke.yaml", tmp_path), "--offline").code == 0
    heads = (tmp_path / "work" / "heads.txt").read_text().splitlines()
    assert len(heads) == 5
    assert all(each.startswith("heads: ") for each in heads)


def test_the_resources_example_hands_out_devices_and_tries_the_flaky_job_again(
    tmp_path: Path,
) -> None:
    line = CommandLine(tmp_path)
    graph = shutil.copy(EXAMPLES / "resources.toml", tmp_path)
    assert line.run("jobs", graph, "--offline").code == 0
    run = line.only_run()
    assert run.jobs()["flaky"]["attempts"] == 2
    assert run.log("train-small").startswith(b"small runs on gpu-")
    assert run.log("simulate-1") == b"hello from simulation 1\n"


def test_the_page_of_examples_names_every_graph() -> None:
    page = (EXAMPLES / "README.md").read_text()
    graphs = [
        path.name
        for path in EXAMPLES.iterdir()
        if path.suffix in (".yaml", ".toml", ".json", ".jsonl")
    ]
    assert sorted(graphs) == sorted(LAST_WORDS)
    assert [name for name in graphs if f"[{name}]({name})" not in page] == []

"""The benchmarks measure what they say, in small: that they run, count right and write figures."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *options: object) -> str:
    command = [sys.executable, BENCHMARKS / f"{name}.py", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def throughput() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(BENCHMARKS / "throughput.py"), run_name="measured"))


def test_throughput_measures_every_contestant_in_one_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- throughput: begin -->\nstale\n<!-- throughput: end -->\nafter\n")
    options = ["--jobs", 20, "--rounds", 2, "--parallel", 2, "--directory", tmp_path]
    run("throughput", *options, "--json", tmp_path / "figures.json", "--page", page)
    figures = json.loads((tmp_path / "figures.json").read_bytes())
    rows = figures["contestants"]
    present = {name for name in ("make", "ninja") if shutil.which(name)}
    assert {"holdfast", "posix_spawn", "posix_spawn + files", *present} <= set(rows)
    for row in rows.values():
        assert 0 < row["jobs_per_s"]["min"] <= row["jobs_per_s"]["max"]
    assert rows["holdfast"]["holdfast_ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    text = page.read_text()
    assert re.match(r"before\n<!-- throughput: begin -->\n20 × `/bin/true`, 2 at a time", text)
    assert text.endswith("<!-- throughput: end -->\nafter\n")
    assert "stale" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "page.md"]


def test_the_limit_does_the_file_operations_that_it_is_said_to_do(tmp_path: Path) -> None:
    seconds = float(run("bare_spawn", 5, 2, tmp_path / "bare"))
    assert seconds > 0
    links = sorted((tmp_path / "bare" / "passing").iterdir())
    assert [link.name for link in links] == [f"t-{number}" for number in range(5)]
    assert all((link / "log.txt").is_file() for link in links)
    assert list((tmp_path / "bare" / "running").iterdir()) == []


def journal(*lines: dict[str, Any]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_the_time_is_from_the_first_start_to_the_last_line(
    throughput: SimpleNamespace, tmp_path: Path
) -> None:
    def status(second: int, to: str) -> dict[str, Any]:
        return {"event": "job_status", "to": to, "at": f"2026-01-01T00:00:{second:02}Z"}

    file = tmp_path / "events.jsonl"
    file.write_text(
        journal(
            {"event": "run_started", "at": "2026-01-01T00:00:00Z"},
            status(1, "queued"),
            status(2, "running"),
            status(3, "passed"),
            {"event": "run_ended", "at": "2026-01-01T00:00:07Z"},
        )
    )
    assert throughput.journal_seconds(file, 1) == 5.0
    with pytest.raises(SystemExit, match="1 of 2 jobs passed"):
        throughput.journal_seconds(file, 2)


def test_what_observers_cost_is_told_for_each_of_them() -> None:
    figures = json.loads(run("observer_cost", "--jobs", 200, "--rounds", 2, "--json"))
    rows = figures["cpu_us_per_job"]
    assert set(rows) == {"journal", "status links", "job list", "counters", "all"}
    assert all(0 < row["min_us"] <= row["median_us"] <= row["max_us"] for row in rows.values())

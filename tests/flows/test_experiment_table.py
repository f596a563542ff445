from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.experiments import run_jobs, write_suite

from flows.experiment_table import failures_text, results_table
from flows.publish import Published, collect
from tasks.experiment_graph import experiment_jobs
from tasks.experiment_suite import load_suite
from tasks.experiment_summary import figure_text, nanoseconds_text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    adapters = {
        "near": "write({'value': [case + 0.25 for case in cases]}, "
        "performance={'per_op_ns': [1000, 2000, 3000]})",
        "far": "write({'value': [case + 2 for case in cases]})",
        "absent": "write({}, status='not available')",
        "broken": "sys.exit(3)",
    }
    suite = load_suite(write_suite(folder, adapters))
    run_jobs(experiment_jobs(suite, n=7, directory=folder))
    return folder


def shown(what: object, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row(text: str, library: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"{library} "))
    return line.split()


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_shows_every_library_with_its_figures(run: Path, width: int) -> None:
    text = shown(results_table(collect(run)), width)
    assert "echo  against reference, n 7, seed 42" in text
    assert row(text, "reference")[1:7] == ["difference", "m", "0", "0", "0", "0"]
    assert row(text, "near")[1:] == ["difference", "m", *["0.25"] * 4, "2", "µs"]
    assert row(text, "absent")[1:3] == ["not", "available"]
    assert row(text, "broken")[1] == "failed"
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_a_median_beyond_what_was_expected_is_marked(run: Path) -> None:
    text = shown(results_table(collect(run)), 80)
    assert row(text, "far")[3:5] == ["2", "!"]
    assert "!" not in " ".join(row(text, "near"))


def test_failures_are_told_with_their_cause(run: Path) -> None:
    text = shown(failures_text(collect(run)), 80)
    assert text == "echo.broken: the adapter exited with code 3\n"


def test_a_changed_document_changes_the_table(run: Path) -> None:
    before = collect(run)
    experiments: dict[str, dict[str, Any]] = copy.deepcopy(dict(before.experiments))  # type: ignore[arg-type]
    experiments["echo"]["near"]["accuracy"]["difference_m"]["p50"] = 1234.5
    after = shown(results_table(Published(run, experiments)), 80)
    assert "1.23e+03" in after
    assert "1.23e+03" not in shown(results_table(before), 80)


def test_markup_and_line_breaks_in_messages_are_only_text(run: Path) -> None:
    published = collect(run)
    document = json.loads(json.dumps(published.experiments["echo"]["broken"]))
    document["cause"]["message"] = "[bold]\n[/nothing]\x1b[31m"
    text = shown(failures_text(Published(run, {"echo": {"broken": document}})), 80)
    assert text.startswith("echo.broken: [bold] [/nothing]")
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("figure", "text"),
    [(0.0, "0"), (0.25, "0.25"), (31.84, "31.8"), (1.832e-10, "1.83e-10"), (3.24e8, "3.24e+08")],
)
def test_figures_have_three_digits_and_only_nothing_is_0(figure: float, text: str) -> None:
    assert figure_text(figure) == text


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [(0.5, "0.5 ns"), (84.3, "84.3 ns"), (1850.0, "1.85 µs"), (2.5e6, "2.5 ms"), (3e9, "3 s")],
)
def test_durations_have_the_unit_that_suits_them(duration_ns: float, text: str) -> None:
    assert nanoseconds_text(duration_ns) == text

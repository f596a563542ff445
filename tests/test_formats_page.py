"""docs/formats.md is a contract: its examples are read from it and held against the program."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.command_line import CommandLine, RunOnDisk

from flows.run import _COMMANDS
from flows.run_summary import EXIT_BY_SIGNAL, EXIT_CANCELLED
from observers.journal_reader import read_journal
from observers.results import results
from tasks.dag_file import read_dag_file
from tasks.errors import BusyError, HoldfastError, InputError, StateError, UnknownError
from tasks.events import (
    Adopted,
    JobChanged,
    KeeperLost,
    KillRequested,
    ObserverFailed,
    RunEnded,
    RunPaused,
    RunStarted,
    RunUnpaused,
)
from tasks.spec import DEFAULTS, JobRecord, JobSpec
from tasks.status import CauseKind, JobStatus, RunStatus

PAGE = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
KEYS = dict(re.findall(r"<!-- keys: (\S+) -->\n```json\n(.*?)```", PAGE, re.DOTALL))


def table(head: str) -> list[list[str]]:
    """Return the cells of the table that follows ``head`` on the page, without its header."""
    after = PAGE.partition(head)[2]
    rows = re.search(r"(?:^\|.*\n)+", after, re.MULTILINE)
    assert rows, f"no table after {head!r}"
    lines = rows.group().splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def code(cell: str) -> str:
    """Return what the first code span of a cell says."""
    return re.findall(r"`([^`]*)`", cell)[0]


# -- the DAG file --------------------------------------------------------------------------------


def test_the_page_has_an_example_of_each_form() -> None:
    assert set(EXAMPLES) == {"smoke.yaml", "smoke.toml", "smoke.jsonl"}
    assert set(KEYS) == {"run.json", "events.jsonl", "results.json"}


def graph_of(name: str, folder: Path) -> tuple[object, ...]:
    path = folder / name
    path.write_text(EXAMPLES[name])
    graph = read_dag_file(str(path))
    jobs = [job.to_json() for job in graph.jobs]
    return graph.name, graph.resources, graph.max_parallel, jobs


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_one_graph_in_three_forms(name: str, tmp_path: Path) -> None:
    assert graph_of(name, tmp_path) == graph_of("smoke.yaml", tmp_path)


def test_the_table_of_fields_is_that_of_the_specification() -> None:
    rows = table("### Fields of a job")
    assert [code(row[0]) for row in rows] == [*JobSpec.model_fields, "matrix"]
    for field, default in ((code(row[0]), row[1]) for row in rows):
        value = DEFAULTS.get(field)
        if default.startswith("`"):
            said = code(default)
            shown = said if isinstance(value, str) else json.loads(said)
            assert shown == (list(value) if isinstance(value, tuple) else value), field
        elif field not in ("matrix", "id", "command"):
            assert not value, f"{field} has the default {value!r}"


# -- the run directory ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunOnDisk:
    """The page's graph, run as the page says, for real."""
    line = CommandLine(tmp_path_factory.mktemp("formats"))
    graph = line.write("smoke.yaml", EXAMPLES["smoke.yaml"])
    done = line.run("jobs", graph, "--offline")
    assert done.code == 0, done.err
    return line.only_run()


def test_the_run_has_what_the_page_lists_and_nothing_else(run: RunOnDisk) -> None:
    listed = {
        name.split("/")[0]
        for row in table("## Run directory")
        for name in re.findall(r"`([^`]*)`", row[0])
    }
    found = {path.name for path in run.directory.iterdir() if not path.name.startswith(".")}
    assert found == listed
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}_smoke", run.name)
    assert (run.directory / "env.txt").stat().st_mode & 0o777 == 0o600


def test_every_link_leads_to_its_job(run: RunOnDisk) -> None:
    jobs = {"build", "test-1", "test-2", "test-3", "merge"}
    assert run.links() == {"running": set(), "passing": jobs, "failed": set(), "killed": set()}
    assert b"TEST PASSED" in run.log("test-2")


def test_run_json_has_the_keys_of_the_page(run: RunOnDisk) -> None:
    said, written = json.loads(KEYS["run.json"]), run.file()
    assert said.keys() <= written.keys()
    assert {name: type(value) for name, value in written.items() if name in said} == {
        name: type(value) for name, value in said.items()
    } | ({"git": dict} if written["git"] else {})
    assert written["counts"] == said["counts"]
    assert written["status"] in {status.value for status in RunStatus}
    for status in RunStatus:
        assert f"`{status.value}`" in PAGE.partition("### run.json")[2].partition("###")[0]


def test_the_journal_has_the_lines_of_the_page(run: RunOnDisk) -> None:
    said = {shape(line): line for line in map(json.loads, KEYS["events.jsonl"].splitlines())}
    written = run.events()
    assert written[0]["v"] == 1
    assert {entry["event"] for entry in written} == {"run_started", "job_status", "run_ended"}
    for entry in written:
        if entry["event"] == "run_started":
            assert entry.keys() >= run.file().keys()
        else:
            assert shape(entry) in said, entry


def shape(entry: dict[str, Any]) -> tuple[str, ...]:
    return (entry["event"], *(key for key in entry if key not in ("at", "event", "v")))


def test_the_page_has_every_event_with_its_keys() -> None:
    events = [
        KillRequested(0.0, "a", "b"),
        RunPaused(0.0),
        RunUnpaused(0.0),
        KeeperLost(0.0, ""),
        Adopted(0.0, []),
        ObserverFailed(0.0, "", ""),
        RunEnded(0.0, RunStatus.FAILED, {}),
        JobChanged(
            0.0, JobRecord("a", "b"), JobStatus.QUEUED, JobStatus.RUNNING, 1, "local"
        ),
    ]  # fmt: skip
    said = {shape(json.loads(line)) for line in KEYS["events.jsonl"].splitlines()}
    assert {shape(event.journal_entry()) for event in events} <= said
    started = RunStarted(0.0, {}).journal_entry()["event"]
    assert {name for name, *_ in said} == {started, *(e.journal_entry()["event"] for e in events)}


def test_results_json_has_the_keys_of_the_page_and_is_made_of_the_journal(run: RunOnDisk) -> None:
    said, written = json.loads(KEYS["results.json"]), run.results()
    assert written == results(read_journal(run.directory))
    assert list(written) == list(said)
    assert all(list(job) == list(said["jobs"][0]) for job in written["jobs"])
    assert all((run.directory / job["log"]).is_file() for job in written["jobs"])


def test_the_list_of_jobs_is_a_dag_file_like_any_other(run: RunOnDisk, tmp_path: Path) -> None:
    graph = read_dag_file(str(run.directory / ".jobs.jsonl"))
    name, resources, max_parallel, jobs = graph_of("smoke.yaml", tmp_path)
    assert (graph.name, graph.resources, graph.max_parallel) == (name, resources, max_parallel)
    assert [job.to_json() for job in graph.jobs] == jobs


def test_a_journal_that_the_page_shows_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(KEYS["events.jsonl"])
    found = results(tmp_path)
    assert found["status"] == "completed"
    assert [(job["id"], job["status"]) for job in found["jobs"]] == [("build", "passed")]


def test_every_cause_stands_on_the_page() -> None:
    assert [code(row[0]) for row in table("<!-- causes -->")] == [kind.value for kind in CauseKind]


# -- the command line ----------------------------------------------------------------------------


def test_the_commands_of_the_page_are_those_there_are() -> None:
    assert [code(row[0]).split()[0] for row in table("<!-- commands -->")] == list(_COMMANDS)


def test_what_is_planned_is_not_there_yet() -> None:
    planned = re.findall(r"\*Planned\*: ([^.]*)\.", PAGE)
    assert len(planned) == 2
    assert not set(re.findall(r"`([\w-]+)`", planned[0])) & set(_COMMANDS)


def test_the_options_of_a_run_are_those_of_the_page() -> None:
    from flows.commands.jobs import command

    paragraph = re.search(r"Commands that run something take (.*?)\*Planned\*", PAGE, re.DOTALL)
    assert paragraph
    said = set(re.findall(r"`(--[\w-]+)`", paragraph.group(1)))
    there = {option for each in command.params for option in each.opts if option.startswith("--")}
    assert there == said | {"--runs", "--json"}


def test_the_exit_codes_of_the_page_are_those_of_the_errors() -> None:
    rows = {row[0] for row in table("### Exit codes")}
    errors = (InputError, BusyError, UnknownError, StateError, HoldfastError)
    assert {str(error.exit_code) for error in errors} <= rows
    assert "129, 130, 143" in rows
    assert sorted(EXIT_BY_SIGNAL.values()) == [129, 130, 143]
    assert EXIT_CANCELLED == 130

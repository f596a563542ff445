"""What docs/formats.md says in detail, held against the readers and writers of each file.

``test_formats_page.py`` runs the page's graph and holds journal, results and command line against
it; here are the rules of the DAG file, the helpers of a run directory, and experiments.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.command_line import CommandLine

from backends.completion_spool import completion_of, read_spool
from backends.job_environment import job_environment
from backends.keeper.protocol import PROTOCOL
from backends.keeper_process import KeeperFile
from flows.publish import collect
from observers.job_list import read_job_list
from observers.report_cursor import ReportCursor
from tasks.dag_file import parse_dag_text, read_dag_file
from tasks.dag_file_format import SUFFIXES
from tasks.dag_file_problems import SHOWN
from tasks.dag_file_yaml import MAX_ALIASED
from tasks.dag_head import HEAD_KEYS
from tasks.errors import InputError
from tasks.experiment_summary import summary_text
from tasks.graph_builder import MAX_JOBS
from tasks.matrix import MAX_COMBINATIONS
from tasks.spec import JobSpec
from tasks.status import CauseKind, JobStatus

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")

BLOCKS = {
    (language, name): text
    for language, name, text in re.findall(
        r"^```(\w+) (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
    )
}


def block(name: str, language: str | None = None) -> str:
    """Return the example of this name."""
    [text] = [
        text
        for (its_language, its_name), text in BLOCKS.items()
        if its_name == name and language in (None, its_language)
    ]
    return text


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    match = re.search(
        rf"^#+ {re.escape(heading)}$\n(.*?)(?=^#+ )", PAGE + "\n# \n", re.MULTILINE | re.DOTALL
    )
    assert match is not None, heading
    return match[1]


def table(heading: str, first_column: str) -> dict[str, list[str]]:
    """Return the rows of the section's table that begins with this column, by their first cell."""
    lines = section(heading).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows: dict[str, list[str]] = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        rows[cells[0].strip("`")] = cells[1:]
    return rows


# -- DAG file ------------------------------------------------------------------------------


def test_the_table_of_suffixes_is_the_readers() -> None:
    said = [suffix for cell in table("DAG file", "suffix") for suffix in re.findall(r"\.\w+", cell)]
    assert said == list(SUFFIXES)


def test_the_matrix_makes_the_commands_that_the_page_says() -> None:
    graph = parse_dag_text(block("matrix.yaml", "yaml"))
    made = [f"{job.id}: {job.command}" for job in graph.jobs]
    assert made == block("matrix.yaml", "text").splitlines()


def test_the_bad_file_gets_the_answer_that_the_page_says() -> None:
    with pytest.raises(InputError) as error:
        parse_dag_text(block("bad.yaml", "yaml"), source="bad.yaml")
    assert list(error.value.problems) == block("bad.yaml", "text").splitlines()
    assert error.value.exit_code == 2


def test_the_keys_of_the_head_are_the_readers() -> None:
    assert sorted(table("The head", "key")) == sorted([*HEAD_KEYS, "jobs"])


def test_the_bounds_of_the_page_are_the_readers() -> None:
    assert f"At most {MAX_COMBINATIONS:,} combinations" in PAGE
    assert f"{MAX_JOBS:,} jobs in a run" in PAGE
    assert f"the first {SHOWN} are listed" in PAGE
    assert f"at most {MAX_ALIASED:,} values" in section("YAML")


def test_a_job_finds_the_variables_that_the_page_says() -> None:
    job = JobSpec(id="a", command="x", interactive=True).record()
    found = job_environment(
        job, run="r", directory=Path("/d"), attempt=1, resources={"gpu": ("0", "1")}
    )
    text = section("What a job finds in its environment").replace("<NAME>", "GPU")
    assert [name for name in found if f"`{name}" not in text] == []


# -- helpers of a run directory --------------------------------------------------------------


def test_the_job_list_is_a_dag_file_and_what_the_real_reader_reads(tmp_path: Path) -> None:
    path = tmp_path / ".jobs.jsonl"
    path.write_text(block(".jobs.jsonl"), encoding="utf-8")
    graph = read_dag_file(str(path))
    assert str(graph.cwd) == "/srv/smoke"
    assert [job.to_json() for job in graph.jobs] == [
        job.to_json() for job in read_job_list(tmp_path)
    ]


def test_the_keepers_file_is_what_the_real_reader_reads(tmp_path: Path) -> None:
    said = json.loads(block(".keeper.json"))
    (tmp_path / ".keeper.json").write_text(block(".keeper.json"), encoding="utf-8")
    keeper = KeeperFile.read(tmp_path)
    assert keeper is not None
    assert (keeper.protocol, keeper.number) == (PROTOCOL, said["number"])
    assert keeper.identity.to_json() == {
        key: said[key] for key in ("pid", "start_time", "boot_id", "host")
    }
    assert keeper.driver_pid == said["driver"]["pid"]


def test_the_completions_are_what_the_real_reader_reads(tmp_path: Path) -> None:
    path = tmp_path / ".completions.jsonl"
    path.write_text(block(".completions.jsonl"), encoding="utf-8")
    job = JobSpec(id="build", command="x", timeout_s=600).record()
    first, second = (completion_of(entry, job, "log") for entry in read_spool(path))
    assert (first.status, second.status) == (JobStatus.FAILED, JobStatus.KILLED)
    assert second.cause is not None
    assert second.cause.kind is CauseKind.TIMEOUT
    assert [(each.number, each.attempt) for each in (first, second)] == [(1, 1), (1, 2)]


def test_the_reports_cursor_is_what_the_real_reader_reads(tmp_path: Path) -> None:
    (tmp_path / ".prefect.json").write_text(block(".prefect.json"), encoding="utf-8")
    cursor = ReportCursor.read(tmp_path)
    assert cursor is not None
    assert cursor.offset == 2048


# -- experiments ---------------------------------------------------------------------------


def test_the_documents_of_experiments_are_what_the_real_reader_reads(tmp_path: Path) -> None:
    document = json.loads(block("candidate.json"))
    folder = tmp_path / document["experiment"]
    folder.mkdir()
    (folder / "astropy.json").write_text(block("candidate.json"), encoding="utf-8")
    (tmp_path / "manifest.json").write_text(block("manifest.json"), encoding="utf-8")
    published = collect(tmp_path)
    assert published.manifest == json.loads(block("manifest.json"))
    assert published.experiments == {document["experiment"]: {"astropy": document}}
    assert "pyerfa" in summary_text([document])


def test_a_real_run_publishes_documents_with_the_keys_of_the_page(tmp_path: Path) -> None:
    suite = ROOT / "examples" / "sorting_suite.py"
    done = CommandLine(tmp_path).run(
        "experiment", "--suite", suite, "--n", 3, "--rounds", 1, "--offline", "--quiet"
    )
    assert done.code == 0, done.err
    [published] = (tmp_path / "results").iterdir()
    manifest = json.loads((published / "manifest.json").read_bytes())
    assert sorted(manifest) == sorted(json.loads(block("manifest.json")))
    assert sorted(manifest["machine"]) == sorted(json.loads(block("manifest.json"))["machine"])
    [written] = published.glob("*/coreutils.json")
    real, said = json.loads(written.read_bytes()), json.loads(block("candidate.json"))
    assert list(real) == list(said)
    for key in ("alignment", "inputs", "performance", "run_metadata"):
        assert list(real[key]) == list(said[key]), key
    [figures] = real["accuracy"].values()
    assert list(figures) == list(said["accuracy"]["gmst_error_arcsec"])


def test_every_named_example_of_the_page_is_held_against_something() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for _, name in BLOCKS if f'block("{name}"' not in source] == []


def test_the_links_of_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 _-]", "", text.lower()).replace(" ", "-") for text in headings}
    targets = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert targets
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (ROOT / "docs" / target).exists(), target

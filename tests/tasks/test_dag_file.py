from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest
from support.dag_files import graph, jobs

from tasks.dag_file import parse_dag, parse_dag_text, read_dag_file
from tasks.errors import InputError

SAME_GRAPH = {
    "smoke.yaml": """
name: same
resources: {licence: 2, gpu: [0, "b"]}
max_parallel: 8
defaults: {timeout_s: 600}
jobs:
  - {id: build, command: [make, all], outputs: [sim]}
  - {id: "test-{seed}", matrix: {seed: [1, 2]}, command: "./sim {seed}", needs: [build]}
  - {id: merge, command: ./merge, needs: ["test-*"], needs_policy: any}
""",
    "smoke.toml": """
name = "same"
max_parallel = 8
resources = {licence = 2, gpu = [0, "b"]}
defaults.timeout_s = 600
[[jobs]]
id = "build"
command = ["make", "all"]
outputs = ["sim"]
[[jobs]]
id = "test-{seed}"
matrix.seed = [1, 2]
command = "./sim {seed}"
needs = ["build"]
[[jobs]]
id = "merge"
command = "./merge"
needs = ["test-*"]
needs_policy = "any"
""",
    "smoke.json": """
{"name": "same", "max_parallel": 8, "resources": {"licence": 2, "gpu": [0, "b"]},
 "defaults": {"timeout_s": 600}, "jobs": [
  {"id": "build", "command": ["make", "all"], "outputs": ["sim"]},
  {"id": "test-{seed}", "matrix": {"seed": [1, 2]}, "command": "./sim {seed}",
   "needs": ["build"]},
  {"id": "merge", "command": "./merge", "needs": ["test-*"], "needs_policy": "any"}]}
""",
    "smoke.jsonl": """
{"name": "same", "max_parallel": 8, "resources": {"licence": 2, "gpu": [0, "b"]}, \
"defaults": {"timeout_s": 600}}
{"id": "build", "command": ["make", "all"], "outputs": ["sim"]}

{"id": "test-{seed}", "matrix": {"seed": [1, 2]}, "command": "./sim {seed}", "needs": ["build"]}
{"id": "merge", "command": "./merge", "needs": ["test-*"], "needs_policy": "any"}
""",
}

EXPECTED = [
    {"id": "build", "command": ("make", "all"), "timeout_s": 600.0, "outputs": ("sim",)},
    {"id": "test-1", "command": "./sim 1", "needs": ("build",), "timeout_s": 600.0},
    {"id": "test-2", "command": "./sim 2", "needs": ("build",), "timeout_s": 600.0},
    {
        "id": "merge",
        "command": "./merge",
        "needs": ("test-1", "test-2"),
        "needs_policy": "any",
        "timeout_s": 600.0,
    },
]


@pytest.fixture
def give_stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], None]:
    def give(content: str | bytes) -> None:
        encoded = content.encode() if isinstance(content, str) else content
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(encoded)))

    return give


@pytest.mark.parametrize("name", SAME_GRAPH)
def test_each_format_says_the_same_graph(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(SAME_GRAPH[name])
    read = read_dag_file(str(path))
    assert [job.to_json() for job in read.jobs] == EXPECTED
    assert read.name == "same"
    assert read.resources == {"licence": 2, "gpu": ("0", "b")}
    assert read.max_parallel == 8
    assert read.cwd == tmp_path


@pytest.mark.parametrize("name", SAME_GRAPH)
def test_content_tells_the_format_of_standard_input(
    name: str, give_stdin: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    give_stdin(SAME_GRAPH[name])
    read = read_dag_file("-")
    assert [job.to_json() for job in read.jobs] == EXPECTED
    assert read.cwd == tmp_path


@pytest.mark.parametrize("name", SAME_GRAPH)
def test_content_tells_the_format_of_a_file_with_another_suffix(name: str, tmp_path: Path) -> None:
    path = tmp_path / "smoke.dag"
    path.write_text("\ufeff" + SAME_GRAPH[name])
    assert [job.to_json() for job in read_dag_file(str(path)).jobs] == EXPECTED


def test_one_job_on_one_line_of_standard_input_is_json_lines(
    give_stdin: Callable[[str], None],
) -> None:
    give_stdin('{"id": "a", "command": "true"}')
    assert [job.id for job in read_dag_file("-").jobs] == ["a"]


def test_a_graph_on_one_line_of_standard_input_is_json(give_stdin: Callable[[str], None]) -> None:
    give_stdin('{"jobs": [{"id": "a", "command": "true"}]}')
    read = read_dag_file("-")
    assert [job.id for job in read.jobs] == ["a"]
    assert read.name == "stdin"


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b'{"id": "a", "command": "true"}\n')
    os.close(writing)
    try:
        assert [job.id for job in read_dag_file(f"/dev/fd/{reading}").jobs] == ["a"]
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("smoke.yaml", "smoke"),
        ("Nightly Run (3).yaml", "nightly-run-3"),
        (".jobs.yaml", "jobs"),
        ("smoke.v2.yaml", "smoke"),
        ("äöü.yaml", "dag"),
        ("-x.yaml", "x"),
        ("_x.yaml", "_x"),
    ],
)
def test_a_graph_without_a_name_is_called_like_its_file(
    file: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text("jobs: [{id: a, command: x}]")
    assert read_dag_file(str(tmp_path / file)).name == name


def test_a_name_that_is_handed_over_wins() -> None:
    assert graph("{name: a, jobs: [{id: a, command: x}]}", name="b").name == "b"


def test_a_name_that_is_handed_over_must_be_allowed() -> None:
    with pytest.raises(InputError) as error:
        graph("{name: a, jobs: [{id: a, command: x}]}", name="../b")
    assert error.value.problems == (
        'dag: the name "../b" is not allowed; '
        "give 1 to 100 of a-z 0-9 . _ - that do not begin with . or -",
    )


def test_a_relative_path_gives_an_absolute_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text("jobs: [{id: a, command: x, cwd: there}]")
    monkeypatch.chdir(tmp_path)
    read = read_dag_file("sub/a.yaml")
    assert read.cwd == tmp_path / "sub"
    assert read.jobs[0].cwd == "there"  # relative to the graph's folder: the backend joins them


def test_the_head_may_name_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{cwd: sub, jobs: [{id: a, command: x}]}")
    assert read_dag_file(str(tmp_path / "a.yaml")).cwd == tmp_path / "sub"
    (tmp_path / "b.yaml").write_text("{cwd: /srv, jobs: [{id: a, command: x}]}")
    assert read_dag_file(str(tmp_path / "b.yaml")).cwd == Path("/srv")


def test_a_graph_that_says_nothing_of_resources_and_parallelism() -> None:
    read = graph("jobs: [{id: a, command: x, resources: {licence: 5}}]")
    assert read.resources == {}  # the command line or a task runner may offer them
    assert read.max_parallel is None


def test_defaults_stand_under_each_jobs_own_fields_and_mappings_merge() -> None:
    assert jobs(
        """
        defaults:
          command: ./run
          timeout_s: 60
          tags: [a]
          env: {A: "1", B: "2"}
          resources: {licence: 1}
        jobs:
          - id: plain
          - id: own
            command: [./other]
            timeout_s: 5
            tags: []
            env: {B: "3", C: "4"}
            resources: {gpu: 1}
        """
    ) == [
        {
            "id": "plain",
            "command": "./run",
            "timeout_s": 60.0,
            "tags": ("a",),
            "env": {"A": "1", "B": "2"},
            "resources": {"licence": 1},
        },
        {
            "id": "own",
            "command": ("./other",),
            "timeout_s": 5.0,
            "env": {"A": "1", "B": "3", "C": "4"},
            "resources": {"licence": 1, "gpu": 1},
        },
    ]


def test_the_defaults_of_a_matrix_job_take_part_in_its_matrix() -> None:
    text = """
    defaults: {env: {SEED: "{seed}"}}
    jobs:
      - {id: "t{seed}", command: x, matrix: {seed: [1]}}
      - {id: plain, command: x}
    """
    assert [job["env"] for job in jobs(text)] == [{"SEED": "1"}, {"SEED": "{seed}"}]


def test_integers_in_env_and_in_command_lists_become_text() -> None:
    [job] = jobs("jobs: [{id: a, command: [sleep, 5, -1], env: {THREADS: 4}}]")
    assert job["command"] == ("sleep", "5", "-1")
    assert job["env"] == {"THREADS": "4"}


def test_a_need_that_is_given_twice_is_one_need() -> None:
    text = """
    jobs:
      - {id: a, command: x}
      - {id: b, command: x, needs: [a, a]}
      - {id: c, command: x, needs: ["*", a, d, b]}
      - {id: d, command: x}
    """
    assert [job.get("needs") for job in jobs(text)] == [None, ("a",), ("a", "b", "d"), None]


def test_braces_are_plain_characters_in_a_job_without_a_matrix() -> None:
    [job] = jobs("jobs: [{id: a, command: \"awk '{print $1}' {{x}}\"}]")
    assert job["command"] == "awk '{print $1}' {{x}}"


def test_a_job_may_need_a_later_one() -> None:
    read = graph("jobs: [{id: a, command: x, needs: [b]}, {id: b, command: x}]")
    assert read.jobs[0].needs == ("b",)
    assert read.jobs[0].needs[0] is read.jobs[1].id  # one text in memory


def test_equal_options_and_commands_are_one_object_in_memory() -> None:
    one, two, three = graph(
        """
        jobs:
          - {id: a, command: [x, y], timeout_s: 5, env: {A: b}}
          - {id: b, command: [x, y], timeout_s: 5, env: {A: b}}
          - {id: c, command: [x, y], weight: 1}
        """
    ).jobs
    assert one.command is two.command is three.command
    assert one.rest is two.rest
    assert three.rest == {"weight": 1.0}


def test_options_that_are_equal_as_numbers_but_differ_in_type_are_not_mixed_up() -> None:
    true, one = graph(
        "jobs: [{id: a, command: x, interactive: true}, {id: b, command: x, retries: 1}]"
    ).jobs
    assert true.interactive is True
    assert one.retries == 1
    assert one.retries is not True


def test_python_code_hands_over_a_mapping(tmp_path: Path) -> None:
    read = parse_dag(
        MappingProxyType({"jobs": [MappingProxyType({"id": "a", "command": ("x", 5)})]}),
        name="mine",
        cwd=tmp_path,
    )
    assert [job.to_json() for job in read.jobs] == [{"id": "a", "command": ("x", "5")}]
    assert (read.name, read.cwd) == ("mine", tmp_path)


def test_a_mapping_of_python_code_is_told_about_without_lines() -> None:
    with pytest.raises(InputError) as error:
        parse_dag({"jobs": [{"id": "a", "command": "x", "retries": "two"}], 5: 6}, source="graph")
    assert error.value.problems == ("graph: has a key that is no text",)
    with pytest.raises(InputError) as error:
        parse_dag({"jobs": [{"id": "a", "command": "x", "retries": "two"}, {5: 6}]}, source="graph")
    assert error.value.problems == (
        'graph: jobs[0].retries: "two" is no integer; give an integer >= 0',
        "graph: jobs[1]: has a key that is no text; the keys are fields of a job",
    )


def test_reading_does_not_change_the_mapping_it_was_given() -> None:
    given = {
        "defaults": {"env": {"A": 1}},
        "jobs": [{"id": "a{x}", "command": ["x", 1], "matrix": {"x": [1, 2]}, "env": {"B": 2}}],
    }
    before = json.dumps(given)
    parse_dag(given)
    assert json.dumps(given) == before


def test_text_may_be_handed_over_as_text_or_bytes() -> None:
    text = "jobs: [{id: a, command: 'ü'}]"
    for given in (text, text.encode()):
        assert parse_dag_text(given).jobs[0].command == "ü"

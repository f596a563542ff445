from __future__ import annotations

import subprocess
import sys
import time

import pytest
from support.dag_files import graph, jobs, problems

from tasks.dag_file_problems import Problems
from tasks.dag_file_yaml import MAX_ALIASED, MAX_DEPTH, read_yaml_document
from tasks.errors import InputError


def value(text: str) -> object:
    return read_yaml_document(text, Problems("F")).value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5),
        ("-5", -5),
        ("+5", 5),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0b101", 5),
        ("0", 0),
        ("1.5", 1.5),
        ("1.5e+3", 1500.0),
        ("1e3", "1e3"),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("true", True),
        ("No", False),
        ("on", True),
        ("y", "y"),
        ("~", None),
        ("null", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("08", "08"),
        ("=", "="),
        ('"5"', "5"),
        ("'on'", "on"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ("|\n  a\n  b", "a\nb"),
        ("!!map {a: 1}", {"a": 1}),
        ("!!seq [a]", ["a"]),
    ],
)
def test_scalars_are_read_as_yaml_1_1_reads_them(text: str, expected: object) -> None:
    assert value(f"x: {text}") == {"x": expected}
    assert type(value(f"x: {text}")["x"]) is type(expected)  # type: ignore[index]


def test_keys_are_text_whatever_yaml_takes_them_for() -> None:
    [job] = jobs("jobs: [{id: a, command: x, env: {ON: a, 1: b, 1.10: c, null: d, 2024-01-01: e}}]")
    assert job["env"] == {"ON": "a", "1": "b", "1.10": "c", "null": "d", "2024-01-01": "e"}


@pytest.mark.parametrize("text", ["010", "0_7", "-017", "1:30", "190:20:30", "1:30.5"])
def test_a_number_that_yaml_reads_as_another_is_refused(text: str) -> None:
    assert problems(f"jobs: [{{id: a, command: x, timeout_s: {text}}}]")[0] == (
        f"1: jobs[0].timeout_s: YAML reads {text} as another number (base 8 or 60); "
        f'quote it: "{text}", or write the number itself'
    )


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!binary", "!mine"]
)
@pytest.mark.parametrize("node", ["x", "[x]", "{a: x}"])
def test_a_tag_makes_no_object(tag: str, node: str) -> None:
    assert problems(f"jobs: [{{id: a, command: {tag} {node}}}]")[0] == (
        f'1: jobs[0].command: the tag "{tag}" is not allowed; give a plain value'
    )


def test_keys_that_are_given_twice_name_both_lines() -> None:
    assert problems(
        """\
        name: a
        jobs:
          - id: a
            command: x
            env: {A: a, A: b}
            command: y
        name: b
        """
    ) == [
        "5: jobs[0].env.A: is given twice (also on line 5); keep one",
        "6: jobs[0].command: is given twice (also on line 4); keep one",
        "7: name: is given twice (also on line 1); keep one",
    ]


def test_anchors_and_merged_mappings_work_and_a_jobs_own_keys_win() -> None:
    assert jobs(
        """
        defaults: &all {timeout_s: 5}
        jobs:
          - &a {id: a, command: &c [x, y], env: &e {A: a, B: b}}
          - {<<: *a, id: b, env: {<<: *e, B: own}}
          - {id: c, command: *c, <<: [{weight: 1}, {weight: 2, retries: 1}]}
        """
    ) == [
        {"id": "a", "command": ("x", "y"), "timeout_s": 5.0, "env": {"A": "a", "B": "b"}},
        {"id": "b", "command": ("x", "y"), "timeout_s": 5.0, "env": {"A": "a", "B": "own"}},
        {"id": "c", "command": ("x", "y"), "timeout_s": 5.0, "weight": 1.0, "retries": 1},
    ]


def test_what_is_wrong_behind_an_alias_is_told_where_it_is_used_and_as_it_is_written() -> None:
    assert problems(
        """\
        jobs:
          - id: a
            command: x
            env: &env {V: 1.10}
          - id: b
            command: x
            env: *env
          - id: c
            command: x
            env:
              <<: *env
              W: 1.20
        """
    ) == [
        '4: jobs[0].env.V: 1.10 is a number here; quote it: "1.10"',
        '7: jobs[1].env.V: 1.10 is a number here; quote it: "1.10"',
        '11: jobs[2].env.V: 1.10 is a number here; quote it: "1.10"',
        '12: jobs[2].env.W: 1.20 is a number here; quote it: "1.20"',
    ]


def test_a_key_that_overrides_a_merged_one_is_told_as_it_is_written() -> None:
    assert problems(
        """\
        jobs:
          - &a {id: a, command: x, retries: 0x1}
          - {<<: *a, id: b, group: 1.50}
          - {group: 2.50, <<: {group: 3.50}, id: c, command: x}
        """
    ) == [
        '3: jobs[1].group: 1.50 is a number here; quote it: "1.50"',
        '4: jobs[2].group: 2.50 is a number here; quote it: "2.50"',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jobs: [*a]", '1: the alias "*a" has no "&a" before it'),
        ("jobs: &a [*a]", '1: the alias "*a" has no "&a" before it'),
        ("jobs: []\n---\njobs: []", "2: a second document begins; give each graph a file of its "
         "own"),
        ("jobs:\n  - ? [a]\n    : b", "2: jobs[0]: a key must be text"),
        ("jobs:\n  - <<: 5\n    id: a\n    command: x", '2: "<<" takes a mapping or a list of '
         "mappings"),
    ],
)  # fmt: skip
def test_yaml_that_makes_no_sense_here(text: str, expected: str) -> None:
    assert problems(text) == [expected]


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
    )
    before = time.process_time()
    [problem] = problems(bomb + "jobs: *a29\n")
    assert problem.endswith(f"aliases stand for more than {MAX_ALIASED:,} values; write them out")
    assert time.process_time() - before < 5


def test_a_bomb_of_merged_mappings_is_refused() -> None:
    wide = ", ".join(f"k{i}: v" for i in range(1000))
    bomb = f"a: &a {{{wide}}}\njobs:\n" + "  - <<: *a\n" * 2000
    assert problems(bomb)[-1].endswith("values; write them out")


def test_depth_is_bounded_on_both_sides() -> None:
    def nested(depth: int) -> str:
        return "[" * depth + "]" * depth

    value(nested(MAX_DEPTH))
    with pytest.raises(InputError, match="is nested too deeply"):
        value(nested(MAX_DEPTH + 2))


def test_many_anchors_and_a_few_aliases_are_fine() -> None:
    text = "jobs:\n" + "".join(f"  - &j{i} {{id: j{i}, command: x}}\n" for i in range(500))
    assert len(graph(text + "  - {<<: *j7, id: last}\n").jobs) == 501


def test_pythons_own_parser_reads_the_same_where_the_c_one_is_missing() -> None:
    code = (
        "import yaml; del yaml.CSafeLoader\n"
        "from tasks.dag_file import parse_dag_text\n"
        "text = 'jobs: [{id: \"t{a}\", command: x, matrix: {a: [1.10, b]}}]'\n"
        "print([job.id for job in parse_dag_text(text).jobs])\n"
        "from tasks.errors import InputError\n"
        "try:\n"
        "    parse_dag_text('jobs: [{id: a\\n  b: c', source='F')\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "['t1.10', 'tb']"
    assert lines[1].startswith("F:2: column ")
    assert "is no YAML: " in lines[1]

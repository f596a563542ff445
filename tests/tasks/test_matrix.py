from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from support.dag_files import graph, jobs, problems

from tasks.dag_file import parse_dag
from tasks.errors import InputError
from tasks.matrix import MAX_COMBINATIONS


def expanded(**job: Any) -> list[dict[str, Any]]:
    return [record.to_json() for record in parse_dag({"jobs": [{"command": "x", **job}]}).jobs]


def wrong(**job: Any) -> list[str]:
    with pytest.raises(InputError) as error:
        parse_dag({"jobs": [{"command": "x", **job}]}, source="F")
    return [problem.removeprefix("F: jobs[0].") for problem in error.value.problems]


def commands(template: str, value: Any) -> list[str]:
    return [job["command"] for job in expanded(id="a", command=template, matrix={"v": [value]})]


def test_each_combination_is_a_job_and_the_last_key_turns_fastest() -> None:
    made = expanded(id="{a}-{b}", matrix={"a": ["x", "y"], "b": [1, 2, 3]})
    assert [job["id"] for job in made] == ["x-1", "x-2", "x-3", "y-1", "y-2", "y-3"]


def test_keys_are_replaced_in_the_fields_that_may_hold_them_and_nowhere_else() -> None:
    made = parse_dag(
        {
            "jobs": [
                {"id": "build-b", "command": "x"},
                {
                    "id": "t-{a}",
                    "matrix": {"a": ["b"]},
                    "command": ["./{a}", "{{a}}", 5],
                    "needs": ["build-{a}", "build-{a}*"],
                    "env": {"{a}": "{a}{a}", "N": 1},
                    "inputs": ["{a}.in"],
                    "outputs": ["{a}.out"],
                    "cwd": "{a}",
                    "group": "{a}",
                    "tags": ["{a}"],
                    "pass_patterns": ["a{3}"],
                },
            ]
        }
    ).jobs[1]
    assert made.to_json() == {
        "id": "t-b",
        "command": ("./b", "{a}", "5"),
        "needs": ("build-b",),
        "env": {"{a}": "bb", "N": "1"},
        "inputs": ("b.in",),
        "outputs": ("b.out",),
        "cwd": "{a}",
        "group": "{a}",
        "tags": ("{a}",),
        "pass_patterns": ("a{3}",),
    }


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{v}", "5"),
        ("{v}{v}", "55"),
        ("{{v}}", "{v}"),
        ("{{{v}}}", "{5}"),
        ("{{{{v}}}}", "{{v}}"),
        ("a{{b}}c{v}d{{", "a{b}c5d{"),
        ("awk {{print}}", "awk {print}"),
        ("x ${{HOME}} {v}", "x ${HOME} 5"),
    ],
)
def test_doubled_braces_are_single_ones(template: str, expected: str) -> None:
    assert commands(template, 5) == [expected]


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), (5, "5"), (-5, "-5"), (1.5, "1.5"), (True, "true"), (False, "false"), ("", "")],
)
def test_values_are_text_numbers_and_booleans(value: object, text: str) -> None:
    [job] = expanded(id="a", command=["x", "{v}"], matrix={"v": [value]})
    assert job["command"] == ("x", text)


@pytest.mark.parametrize(
    ("kind", "values", "texts"),
    [
        ("yaml", "[1.10, 1e5, 0x1F, 1_000, True, 2024-01-01]",
         ["1.10", "1e5", "0x1F", "1_000", "true", "2024-01-01"]),
        ("json", '[1.10, 1E5, -0, true, "x"]', ["1.10", "1E5", "-0", "true", "x"]),
        ("toml", "[1.10, 1e5, 0x1F, 1_000, true]", ["1.10", "1e5", "0x1F", "1_000", "true"]),
    ],
)  # fmt: skip
def test_numbers_are_put_in_as_they_are_written(kind: Any, values: str, texts: list[str]) -> None:
    job = {
        "yaml": f'jobs: [{{id: "a{{n}}", command: [x, "{{v}}"], matrix: {{n: [0], v: {values}}}}}]',
        "json": f'{{"jobs": [{{"id": "a", "command": ["{{v}}", "{{v}}"], "matrix": '
        f'{{"v": {values}}}}}]}}',
        "toml": f'[[jobs]]\nid = "a"\ncommand = ["x", "{{v}}"]\nmatrix.v = {values}\n',
    }[kind]
    # Each value alone, so that ids need not differ.
    found = []
    for value in values.strip("[]").split(", "):
        [made] = jobs(job.replace(values, f"[{value}]"), kind)
        found.append(made["command"][1])
    assert found == texts


def test_words_of_a_list_are_not_quoted_but_the_text_for_the_shell_is() -> None:
    hostile = "a b; $(rm -rf ~) 'x'"
    [job] = expanded(id="a", command=["echo", "{v}"], matrix={"v": [hostile]})
    assert job["command"] == ("echo", hostile)
    assert commands("echo {v}", hostile) == [f"echo {shlex.quote(hostile)}"]


def test_env_and_globs_get_the_value_as_it_is() -> None:
    [job] = expanded(
        id="a", env={"V": "{v}"}, inputs=["{v}"], outputs=["{v}"], matrix={"v": ["a b'*"]}
    )
    assert job["env"] == {"V": "a b'*"}
    assert job["inputs"] == job["outputs"] == ("a b'*",)


def test_a_value_that_needs_no_quotes_may_stand_in_quotes() -> None:
    assert commands("sh -c './sim --seed {v}'", 5) == ["sh -c './sim --seed 5'"]
    assert commands("x \"{v}\" '{v}'", "") == ["x \"\" ''"]


def test_a_value_that_would_name_a_shell_variable_is_refused() -> None:
    assert wrong(id="a", command="echo ${v}", matrix={"v": [1]}) == [
        'command: "${v}" would be a shell variable named by the value; '
        "write {v} for the value, ${{v}} for the variable"
    ]


def test_a_value_inside_quotes_that_needs_quotes_is_refused_with_the_way_out() -> None:
    assert wrong(id="{w}", command="x '{v}'", matrix={"v": ["a b"], "w": [1, 2]}) == [
        "command: {v} stands inside quotes, backquotes, a comment or a here-document, where its "
        'value "a b" cannot be quoted; take the quotes away (values are quoted for you), '
        "or give the command as a list"
    ]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"command": "awk '{print $1}'"}, 'command: "{print $1}" names no key of the matrix; '
         "the keys are seed, size; double the braces to mean the characters"),
        ({"command": "x {sede}"}, 'command: "{sede}" names no key of the matrix; '
         'did you mean "seed"?'),
        ({"command": "x {"}, 'command: a single "{" in a job with a matrix; '
         "double it to mean the character"),
        ({"command": ["x", "}"]}, 'command[1]: a single "}" in a job with a matrix; '
         "double it to mean the character"),
        ({"command": "x {}"}, 'command: "{}" names no key of the matrix; '
         "the keys are seed, size; double the braces to mean the characters"),
        ({"env": {"A": "{b}"}}, 'env.A: "{b}" names no key of the matrix; '
         "the keys are seed, size; double the braces to mean the characters"),
        ({"needs": ["{b}"]}, 'needs[0]: "{b}" names no key of the matrix; '
         "the keys are seed, size; double the braces to mean the characters"),
        ({"id": "a"}, 'id: "a" lacks {seed}; each combination needs an id of its own'),
        ({"matrix": {}}, "matrix: is empty; give a mapping of keys to lists of values"),
        ({"matrix": [1]}, "matrix: a list is no mapping; give a mapping of keys to lists of "
         "values"),
        ({"matrix": {"seed": 5, "size": [1]}}, "matrix.seed: 5 is no list; give a list of values"),
        ({"matrix": {"seed": [], "size": [1]}}, "matrix.seed: is empty; give at least one value"),
        ({"matrix": {"seed": [1, "1"], "size": [1]}}, 'matrix.seed[1]: "1" is given twice; keep '
         "one"),
        ({"matrix": {"seed": [None], "size": [1]}}, "matrix.seed[0]: nothing is given; give a "
         "value, or leave the field out; give text, a number or a boolean"),
        ({"matrix": {"seed": [[1]], "size": [1]}}, "matrix.seed[0]: a list cannot be put into "
         "text; give text, a number or a boolean"),
        ({"matrix": {"seed": [1], "size": [1], "a b": [1]}}, 'matrix: "a b" is no key; use '
         "letters, digits, _ and -"),
    ],
)  # fmt: skip
def test_a_wrong_matrix_is_named(field: dict[str, Any], expected: str) -> None:
    job = {"id": "t-{seed}", "matrix": {"seed": [1, 2], "size": [1]}, **field}
    assert wrong(**job) == [expected]


def test_a_matrix_value_that_yaml_takes_for_a_boolean_must_be_quoted() -> None:
    assert problems('jobs: [{id: "a{v}", command: x, matrix: {v: [on, off]}}]') == [
        '1: jobs[0].matrix.v[0]: on is a boolean here; quote it: "on"',
        '1: jobs[0].matrix.v[1]: off is a boolean here; quote it: "off"',
    ]


def test_a_made_id_is_checked_like_any_other() -> None:
    [problem] = wrong(id="t-{v}", matrix={"v": ["../x"]})
    assert problem.startswith('id: "t-../x" is not allowed; give 1 to 200 of ')
    assert wrong(id="{a}{b}", matrix={"a": ["x", "xy"], "b": ["yz", "z"]}) == [
        'id: "xyz" is the id of another combination; ids must differ'
    ]


def test_what_is_wrong_in_every_combination_is_said_once() -> None:
    assert wrong(id="t-{v}", matrix={"v": list(range(100))}, retries="two") == [
        'retries: "two" is no integer; give an integer >= 0'
    ]


def test_a_job_that_could_not_be_made_leaves_its_needs_alone() -> None:
    text = """\
    jobs:
      - {id: "t-{v}", command: x, matrix: {w: [1]}}
      - {id: merge, command: x, needs: ["t-*", t-1]}
    """
    assert problems(text) == [
        '2: jobs[0].id: "{v}" names no key of the matrix; the keys are w; '
        "double the braces to mean the characters"
    ]


def test_too_many_combinations_are_refused_before_any_is_made() -> None:
    thousand = list(range(1001))
    assert wrong(id="{a}{b}", matrix={"a": thousand, "b": thousand}) == [
        f"matrix: makes 1,002,001 jobs; at most {MAX_COMBINATIONS:,} are allowed"
    ]


def test_many_combinations_are_fine() -> None:
    read = parse_dag(
        {
            "jobs": [
                {
                    "id": "t{a}-{b}",
                    "command": "x {a}",
                    "matrix": {"a": [*range(100)], "b": [*range(50)]},
                },
                {"id": "all", "command": "x", "needs": ["t*"]},
            ]
        }
    )
    assert len(read.jobs) == 5001
    assert len(read.jobs[-1].needs) == 5000


def test_wrong_types_in_a_matrix_job_are_told_as_in_any_other() -> None:
    assert wrong(id=5, command=7, env=[1], needs="x", matrix={"v": [1]}) == [
        'id: 5 is a number here; quote it: "5"',
        'command: 7 is a number here; quote it: "7"',
        'needs: "x" is no list; give a list of job ids or globs',
        "env: a list is no mapping; give a mapping of names to texts",
    ]


def test_the_example_of_a_value_in_json_text_survives() -> None:
    text = json.dumps({"jobs": [{"id": "a", "command": "x {v}", "matrix": {"v": ['"']}}]})
    assert graph(text, "json").jobs[0].command == "x '\"'"

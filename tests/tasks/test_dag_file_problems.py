"""What is said about bad DAG files: the sentences themselves are the contract."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.dag_files import file_problems, graph, problems

from tasks.dag_file import read_dag_file
from tasks.dag_file_problems import COLLECTED, SHOWN
from tasks.errors import InputError

ID = "1 to 200 of A-Z a-z 0-9 . _ : = + , @ - that do not begin with . or -"
COMMAND = "text for /bin/sh -c, or a list of words that is executed as it is"
GLOBS = "a list of globs, relative to the job's folder"


def one(field: str) -> list[str]:
    """Return what is said about a job of the file that has this field on line 5."""
    return problems(
        f"""\
        jobs:
          - {{id: other, command: x}}
          - id: a
            command: x
            {field}
        """
    )


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("retries: two", '5: jobs[1].retries: "two" is no integer; give an integer >= 0'),
        ("retries: -1", "5: jobs[1].retries: -1 is too small; give an integer >= 0"),
        ("retries: 1.0", "5: jobs[1].retries: 1.0 is no integer; give an integer >= 0"),
        ("retries: yes", "5: jobs[1].retries: true is no integer; give an integer >= 0"),
        (
            "retries: 99999999999999999999",
            "5: jobs[1].retries: 99999999999999999999 is too large; give an integer >= 0",
        ),
        (
            f"retries: {'9' * 500}",
            "5: jobs[1].retries: a huge integer is too large; give an integer >= 0",
        ),
        ("retries:", "5: jobs[1].retries: nothing is given; give an integer >= 0, or leave the "
         "field out"),
        ("timeout_s: 0", "5: jobs[1].timeout_s: 0 is too small; give a number of seconds > 0"),
        ('timeout_s: "9"', '5: jobs[1].timeout_s: "9" is no number; give a number of seconds > 0'),
        ("timeout_s: on", "5: jobs[1].timeout_s: true is no number; give a number of seconds > 0"),
        ("timeout_s: .inf", "5: jobs[1].timeout_s: inf is not finite; give a number of seconds > "
         "0"),
        ("grace_s: -1", "5: jobs[1].grace_s: -1 is too small; give a number of seconds >= 0"),
        ("weight: heavy", '5: jobs[1].weight: "heavy" is no number; give a number'),
        ("interactive: 1", "5: jobs[1].interactive: 1 is neither true nor false; give true or "
         "false"),
        ("leftovers: keep", '5: jobs[1].leftovers: "keep" is not known; give "kill" or "allow"'),
        ("needs_policy: some", '5: jobs[1].needs_policy: "some" is not known; give "all" or "any"'),
        ("needs: other", '5: jobs[1].needs: "other" is no list; give a list of job ids or globs'),
        ("needs: [5]", '5: jobs[1].needs[0]: 5 is a number here; quote it: "5"'),
        ("needs: [{a: b}]", "5: jobs[1].needs[0]: a mapping is no text; give a job id or a glob"),
        ("tags: [1.10]", '5: jobs[1].tags[0]: 1.10 is a number here; quote it: "1.10"'),
        ("tags: nightly", '5: jobs[1].tags: "nightly" is no list; give a list of texts'),
        ("inputs: a.txt", f'5: jobs[1].inputs: "a.txt" is no list; give {GLOBS}'),
        ('outputs: ["a\\0b"]', '5: jobs[1].outputs[0]: "a\\x00b" is not allowed; give a glob'),
        ("cwd: 5", '5: jobs[1].cwd: 5 is a number here; quote it: "5"'),
        ("group: no", '5: jobs[1].group: no is a boolean here; quote it: "no"'),
        ("env: [A]", "5: jobs[1].env: a list is no mapping; give a mapping of names to texts"),
        ("env: {DEBUG: on}", '5: jobs[1].env.DEBUG: on is a boolean here; quote it: "on"'),
        ("env: {V: 1.10}", '5: jobs[1].env.V: 1.10 is a number here; quote it: "1.10"'),
        ("env: {V: 010}", "5: jobs[1].env.V: YAML reads 010 as another number (base 8 or 60); "
         'quote it: "010", or write the number itself'),
        ("env: {V: 12:30}", "5: jobs[1].env.V: YAML reads 12:30 as another number (base 8 or 60); "
         'quote it: "12:30", or write the number itself'),
        ("env: {V: }", "5: jobs[1].env.V: nothing is given; give text, or leave the field out"),
        ('env: {"A=B": x}', '5: jobs[1].env: "A=B" cannot be an environment variable; give a '
         "mapping of names to texts"),
        ("resources: {gpu: -1}", "5: jobs[1].resources.gpu: -1 is too small; give an integer >= "
         "0"),
        ("resources: {gpu: 1.5}", "5: jobs[1].resources.gpu: 1.5 is no integer; give an integer "
         ">= 0"),
        ("retry_exit_codes: [0]", "5: jobs[1].retry_exit_codes[0]: 0 is too small; give an integer "
         "from 1 to 255"),
        ("retry_exit_codes: [256]", "5: jobs[1].retry_exit_codes[0]: 256 is too large; give an "
         "integer from 1 to 255"),
        ('fail_patterns: ["("]', '5: jobs[1].fail_patterns: "(" is no regular expression: missing '
         "), unterminated subpattern at position 0; give a list of regular expressions"),
        ("retrys: 3", '5: jobs[1].retrys: is no field of a job; did you mean "retries"?'),
        ("timeout: 3", '5: jobs[1].timeout: is no field of a job; did you mean "timeout_s"?'),
        ("depends_on: [other]", '5: jobs[1].depends_on: is no field of a job; did you mean '
         '"needs"?'),
        ("colour: red", "5: jobs[1].colour: is no field of a job; the fields are id, command, "
         "matrix, needs, needs_policy, group, backend, resources, weight, timeout_s, grace_s, "
         "retries, retry_delay_s, retry_exit_codes, env, cwd, inputs, outputs, pass_patterns, "
         "fail_patterns, leftovers, keep_previous, interactive, tags"),
        ('"a\\e[31m": 1', '5: jobs[1]."a\\x1b[31m": is no field of a job; the fields are id, '
         "command, matrix, needs, needs_policy, group, backend, resources, weight, timeout_s, "
         "grace_s, retries, retry_delay_s, retry_exit_codes, env, cwd, inputs, outputs, "
         "pass_patterns, fail_patterns, leftovers, keep_previous, interactive, tags"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_line_value_and_what_is_allowed(
    field: str, expected: str
) -> None:
    assert one(field) == [expected]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ('""', f"jobs[0].command: is empty; give {COMMAND}"),
        ('" "', f"jobs[0].command: is empty; give {COMMAND}"),
        ("[]", f"jobs[0].command: a list is empty; give {COMMAND}"),
        ('[""]', f"jobs[0].command: is empty; give {COMMAND}"),
        ("5", 'jobs[0].command: 5 is a number here; quote it: "5"'),
        ("{a: b}", f"jobs[0].command: a mapping is no text; give {COMMAND}"),
        ("[set, on]", 'jobs[0].command[1]: on is a boolean here; quote it: "on"'),
        ("[sleep, 0.10]", 'jobs[0].command[1]: 0.10 is a number here; quote it: "0.10"'),
        ("[[a]]", "jobs[0].command[0]: a list is no text; give text"),
        ('"a\\0b"', f"jobs[0].command: contains a NUL character; give {COMMAND}"),
    ],
)
def test_a_command_says_something(command: str, expected: str) -> None:
    assert problems(f"jobs: [{{id: a, command: {command}}}]") == [f"1: {expected}"]


@pytest.mark.parametrize(
    "job_id", ["../../x", "a/b", ".hidden", "-v", "a b", "ä", "a\tb", "a\n", "", "x" * 201, "a*"]
)
def test_an_id_that_could_harm_is_refused(job_id: str) -> None:
    text = json.dumps({"jobs": [{"id": job_id, "command": "x"}]})
    [problem] = problems(text, "json")
    assert problem.startswith('1: jobs[0].id: "')
    assert problem.endswith(f'" is not allowed; give {ID}') or "…" in problem
    assert problem.isprintable()


@pytest.mark.parametrize("job_id", ["a", "A.b_c:d=e+f,g@h-i", "_", "1", "x" * 200])
def test_an_id_of_allowed_characters_is_allowed(job_id: str) -> None:
    assert graph(f'jobs: [{{id: "{job_id}", command: x}}]').jobs[0].id == job_id


def test_everything_is_said_at_once_in_the_order_of_the_lines() -> None:
    assert problems(
        """\
        name: Foo Bar
        colour: red
        resources:
          licence: two
          gpu: [0, 0, x y, 1.5]
          GPU: 1
          5x: 1
        max_parallel: 0
        defaults: {timeout_s: soon, id: x, matrix: {}, retris: 3}
        jobs:
          - id: build
            command: x
            retries: two
          - id: build
            command: x
            needs: [bild, "zz*", build]
          - just text
        """
    ) == [
        '1: name: "Foo Bar" is not allowed; give 1 to 100 of a-z 0-9 . _ - that do not begin with '
        ". or -",
        "2: colour: is no key of a DAG file; the keys are name, resources, max_parallel, cwd, "
        "defaults and jobs",
        '4: resources.licence: "two" is no integer; give an integer >= 0, or a list of ids',
        '5: resources.gpu[1]: "0" is given twice; ids must differ',
        '5: resources.gpu[2]: "x y" is no id; give 1 to 200 of A-Z a-z 0-9 . _ : / @ + = -',
        '5: resources.gpu[3]: 1.5 is a number here; quote it: "1.5"',
        '6: resources.GPU: differs from "gpu" in case alone; rename one',
        '7: resources."5x": "5x" is no name of a resource; give letters, digits and _',
        "8: max_parallel: 0 is too small; give an integer >= 1",
        "9: defaults.id: is each job's own; give it in the job",
        "9: defaults.matrix: is each job's own; give it in the job",
        '9: defaults.timeout_s: "soon" is no number; give a number of seconds > 0',
        '9: defaults.retris: is no field of a job; did you mean "retries"?',
        '13: jobs[0].retries: "two" is no integer; give an integer >= 0',
        '14: jobs[1].id: "build" is also the id of jobs[0] on line 11; ids must differ',
        '17: jobs[2]: "just text" is no job; give a mapping with id and command',
    ]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("name: 5", '1: name: 5 is a number here; quote it: "5"'),
        ("name:", "1: name: nothing is given; give 1 to 100 of a-z 0-9 . _ - that do not begin "
         "with . or -, or leave the field out"),
        ("cwd: [a]", "1: cwd: a list is no text; give a folder"),
        ('cwd: "\\0"', '1: cwd: "\\x00" contains a NUL character; give a folder'),
        ("max_parallel: lots", '1: max_parallel: "lots" is no integer; give an integer >= 1'),
        ("max_parallel: on", "1: max_parallel: true is no integer; give an integer >= 1"),
        ("max_parallel: 1000000000000", "1: max_parallel: 1000000000000 is too large; give an "
         "integer >= 1"),
        ("resources: [gpu]", "1: resources: a list is no mapping; give a mapping of names to "
         "counts or ids"),
        ("resources: {gpu: -1}", "1: resources.gpu: -1 is too small; give an integer >= 0, or a "
         "list of ids"),
        ("resources: {gpu: }", "1: resources.gpu: nothing is given; give an integer >= 0, or a "
         "list of ids, or leave the field out"),
        ("defaults: 5", "1: defaults: 5 is no mapping; give a mapping of fields of a job"),
        ("nam: x", '1: nam: is no key of a DAG file; did you mean "name"?'),
    ],
)  # fmt: skip
def test_a_wrong_head_is_named(head: str, expected: str) -> None:
    assert problems(f"{head}\njobs: [{{id: a, command: x}}]") == [expected]


def test_an_unknown_need_names_the_nearest_id() -> None:
    assert problems(
        """\
        jobs:
          - {id: build, command: x}
          - id: test
            command: x
            needs:
              - build
              - bild
              - zzz
        """
    ) == [
        '7: jobs[1].needs[1]: "bild" is no job; did you mean "build"?',
        '8: jobs[1].needs[2]: "zzz" is no job; add it or take the need away',
    ]


def test_a_glob_that_matches_nothing_but_the_job_itself_is_an_error() -> None:
    assert problems(
        """\
        jobs:
          - {id: build, command: x}
          - {id: test, command: x, needs: ["tes*", "[x]*"]}
        """
    ) == [
        '3: jobs[1].needs[0]: "tes*" matches no other job; mend the glob or take it away',
        '3: jobs[1].needs[1]: "[x]*" matches no other job; mend the glob or take it away',
    ]


def test_a_cycle_is_named_by_its_path() -> None:
    assert problems(
        """\
        jobs:
          - {id: start, command: x}
          - {id: a, command: x, needs: [start, c]}
          - {id: b, command: x, needs: [a]}
          - {id: c, command: x, needs: [b]}
          - {id: self, command: x, needs: [self]}
        """
    ) == [
        '3: jobs[1].needs: dependency cycle: a -> c -> b -> a; remove one of these "needs"',
        '6: jobs[4].needs: dependency cycle: self -> self; remove one of these "needs"',
    ]


def test_globs_can_make_a_cycle() -> None:
    assert problems(
        'jobs: [{id: a, command: x, needs: ["*"]}, {id: b, command: x, needs: [a]}]'
    ) == ['1: jobs[0].needs: dependency cycle: a -> b -> a; remove one of these "needs"']


def test_a_request_above_the_limit_and_an_unknown_resource_are_errors() -> None:
    assert problems(
        """\
        resources: {licence: 2, gpu: [a, b]}
        jobs:
          - {id: fits, command: x, resources: {licence: 2, gpu: 2}}
          - id: not
            command: x
            resources:
              licence: 3
              gpu: 3
              licenses: 1
        """
    ) == [
        "7: jobs[1].resources.licence: asks for 3; there are 2: see resources of the head",
        "8: jobs[1].resources.gpu: asks for 3; there are 2: see resources of the head",
        '9: jobs[1].resources.licenses: "licenses" is no resource of this file; '
        'did you mean "licence"?',
    ]


def test_a_need_of_a_job_that_is_itself_wrong_is_not_called_unknown() -> None:
    assert problems(
        """\
        jobs:
          - {id: build-1, command: x, retries: two}
          - {id: test, command: x, needs: [build-1]}
          - {id: all, command: x, needs: ["build-*"]}
        """
    ) == ['2: jobs[0].retries: "two" is no integer; give an integer >= 0']


def test_the_needs_and_resources_of_a_job_that_is_wrong_are_checked_too() -> None:
    assert problems(
        """\
        resources: {licence: 1}
        jobs:
          - {id: build, command: x}
          - id: test
            command: x
            retries: two
            needs: [biuld, build, tes, "b*", "z*"]
            resources: {licence: 2, gpu: 1, other: true}
        """
    ) == [
        '6: jobs[1].retries: "two" is no integer; give an integer >= 0',
        '7: jobs[1].needs[0]: "biuld" is no job; did you mean "build"?',
        '7: jobs[1].needs[2]: "tes" is no job; did you mean "test"?',
        '7: jobs[1].needs[4]: "z*" matches no other job; mend the glob or take it away',
        "8: jobs[1].resources.other: true is no integer; give an integer >= 0",
        "8: jobs[1].resources.licence: asks for 2; there are 1: see resources of the head",
        '8: jobs[1].resources.gpu: "gpu" is no resource of this file; '
        "add it to resources of the head",
    ]


def test_the_id_of_a_job_that_is_wrong_is_taken_too() -> None:
    assert problems(
        """\
        jobs:
          - {id: a, command: x, retries: two}
          - {id: a, command: x}
          - {id: a, command: x, retries: two}
        """
    ) == [
        '2: jobs[0].retries: "two" is no integer; give an integer >= 0',
        '3: jobs[1].id: "a" is also the id of jobs[0] on line 2; ids must differ',
        '4: jobs[2].retries: "two" is no integer; give an integer >= 0',
        '4: jobs[2].id: "a" is also the id of jobs[0] on line 2; ids must differ',
    ]


def test_a_wrong_default_is_said_once_and_not_for_each_job() -> None:
    text = "defaults: {retries: two, env: {A: on}}\njobs:\n" + "".join(
        f"  - {{id: a{i}, command: x}}\n" for i in range(30)
    )
    assert problems(text) == [
        '1: defaults.retries: "two" is no integer; give an integer >= 0',
        '1: defaults.env.A: on is a boolean here; quote it: "on"',
    ]


def test_of_very_many_problems_the_first_are_listed_and_the_rest_counted() -> None:
    def bad_jobs(count: int) -> str:
        return "jobs:\n" + "".join(
            f"  - {{id: a{i}, command: x, retries: two}}\n" for i in range(count)
        )

    listed = problems(bad_jobs(SHOWN))
    assert len(listed) == SHOWN
    assert listed[-1].startswith(f"{SHOWN + 1}: jobs[{SHOWN - 1}].retries")
    assert problems(bad_jobs(SHOWN + 1))[SHOWN:] == ["and 1 more problem"]
    assert problems(bad_jobs(SHOWN + 35))[SHOWN:] == ["and 35 more problems"]
    assert problems(bad_jobs(COLLECTED + 500))[SHOWN:] == [
        f"and {COLLECTED - SHOWN} more problems; reading stopped there"
    ]


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("a.yaml", b"", "is empty; give a graph with jobs"),
        ("a.jsonl", b" \n\n", "is empty; give a graph with jobs"),
        ("a.yaml", b"# nothing\n", 'is empty; give a mapping with "jobs"'),
        ("a.yaml", b"jobs: []", "has no jobs; give at least one"),
        ("a.json", b'{"jobs": []}', "has no jobs; give at least one"),
        ("a.jsonl", b'{"name": "x"}\n', "has no jobs; give at least one"),
        ("a.yaml", b"name: x", "1: jobs: is missing; give a list of jobs"),
        ("a.yaml", b"jobs: {a: b}", "1: jobs: a mapping is no list; give a list of jobs"),
        ("a.yaml", b"- id: a", 'a list is no graph; give a mapping with "jobs"'),
        ("a.yaml", b"just text", '"just text" is no graph; give a mapping with "jobs"'),
        ("a.json", b"5", '5 is no graph; give a mapping with "jobs"'),
        ("a.yaml", b"jobs:\n  - [", "3: column 1: is no YAML: did not find expected node content"),
        ("a.yaml", b"a: b: c", "1: column 5: is no YAML: mapping values are not allowed in this "
         "context"),
        ("a.yaml", b"a: \x01", "is no YAML: control characters are not allowed"),
        ("a.toml", b'a = "', "1: is no TOML: Unterminated string"),
        ("a.toml", b"a = 1\na = 2", "2: is no TOML: Cannot overwrite a value"),
        ("a.toml", b"\njobs = [", "2: is no TOML: Invalid value"),
        ("a.json", b'{"a": 1,}', "1: column 9: is no JSON: Expecting property name enclosed in "
         "double quotes"),
        ("a.json", b"[1,\n2", "2: column 2: is no JSON: Expecting ',' delimiter"),
        ("a.json", b'{"a": ' + b"9" * 5000 + b"}", "holds an integer of more than 4,300 digits"),
        ("a.toml", b"a = " + b"9" * 5000, "is no TOML: an integer has more than 4,300 "
         "digits"),
        ("a.yaml", b"jobs:\n  - id: \xff", "2: column 9: is no UTF-8 (byte 0xff); save it as "
         "UTF-8"),
        ("a.yaml", b"a: b\n\x00", "2: holds a NUL byte; give a text file"),
        ("a.jsonl", b"\x7fELF\x00\x01\x02", "holds a NUL byte; give a text file"),
        ("a.json", "{}".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("a.json", b"[" * 100_000, "is nested too deeply for a DAG file"),
        ("a.toml", b"a = " + b"[" * 100_000, "is nested too deeply for a DAG file"),
        ("a.yaml", b"[" * 100_000, "1: is nested too deeply for a DAG file"),
        ("a.json", b"{}", "1: jobs: is missing; give a list of jobs"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_graph_is_told_so(
    file: str, content: bytes, expected: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_bytes(content)
    assert file_problems(tmp_path / file) == [expected]


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    assert file_problems(tmp_path / "a.yaml") == [
        "there is no such file; give a DAG file, or - for standard input"
    ]


def test_a_folder_is_no_dag_file(tmp_path: Path) -> None:
    assert file_problems(tmp_path) == ["is a folder; give a DAG file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch(mode=0o000)
    assert file_problems(tmp_path / "a.yaml") == ["cannot be read: Permission denied"]


def test_a_file_behind_a_loop_of_links_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("a.yaml")
    assert file_problems(tmp_path / "a.yaml") == [
        "cannot be read: Too many levels of symbolic links"
    ]


def test_no_control_character_of_a_path_reaches_the_terminal() -> None:
    with pytest.raises(InputError) as error:
        read_dag_file("\x1b[2J\0\n.yaml")
    assert error.value.problems == ("\\x1b[2J\\x00\\n.yaml: is no path of a file; give a DAG file",)


def test_json_and_toml_have_lines_too() -> None:
    assert problems(
        """\
        {"name": "x",
         "jobs": [
          {"id": "a",
           "command": "x",
           "env": {"A": "b",
                   "V": 1.10}},
          {"id": "b", "id": "c", "command": ["x",
            [1]]}
        ]}
        """,
        "json",
    ) == [
        '6: jobs[0].env.V: 1.10 is a number here; quote it: "1.10"',
        "7: jobs[1].id: is given twice (on the same line); keep one",
        "8: jobs[1].command[1]: a list is no text; give text",
    ]
    assert problems(
        '''\
        name = "x"
        resources.licence = -1
        [[jobs]]
        id = "a"
        command = """
        several
        # lines """ # and a comment
        env = { A = "}", \'B\' = true, "C" = 2024-01-01 }
        [[jobs]]
        id = "b"
        command = ["x", # one
          "]", [1],
          1.10]
        [jobs.resources]
        "gpu" = "two"
        [defaults]
        [defaults.env]
        X = 07:32:00
        ''',
        "toml",
    ) == [
        "2: resources.licence: -1 is too small; give an integer >= 0, or a list of ids",
        '8: jobs[0].env.B: true is a boolean here; quote it: "true"',
        '8: jobs[0].env.C: 2024-01-01 is a date or a time here; quote it: "2024-01-01"',
        "12: jobs[1].command[2]: a list is no text; give text",
        '13: jobs[1].command[3]: 1.10 is a number here; quote it: "1.10"',
        '15: jobs[1].resources.gpu: "two" is no integer; give an integer >= 0',
        '18: defaults.env.X: 07:32:00 is a date or a time here; quote it: "07:32:00"',
    ]

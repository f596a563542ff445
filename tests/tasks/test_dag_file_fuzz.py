"""Whatever is in a DAG file: a graph or an ``InputError``, never another exception."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.dag_file import parse_dag, parse_dag_text
from tasks.dag_file_format import Format
from tasks.errors import InputError
from tasks.job_graph import JobGraph
from tasks.spec import JobSpec

FORMATS: list[Format | None] = ["yaml", "toml", "json", "jsonl", None]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400)]),
    st.floats(),
    st.text(max_size=6),
    st.text(max_size=6).map(lambda text: f"{{{text}}}"),
    st.sampled_from(["*", "[", "a", "{a}", "{{", "a-*", "(", "a{99999999999}", "\ud800", "\0"]),
    st.dates(),
    st.binary(max_size=3),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner, max_size=3),
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from([*JobSpec.model_fields, "matrix", "other"])
JOBS = st.one_of(
    st.dictionaries(FIELDS, VALUES, max_size=4),
    st.builds(
        lambda job, more: {**job, **more},
        st.fixed_dictionaries(
            {"id": st.sampled_from(["a", "b", "c{a}"]), "command": st.just("x {a}")},
            optional={
                "matrix": st.dictionaries(st.just("a"), st.lists(SCALARS, max_size=3), max_size=1),
                "needs": st.lists(st.sampled_from(["a", "b", "c*", "[", "*"]), max_size=3),
            },
        ),
        st.dictionaries(FIELDS, VALUES, max_size=2),
    ),
    VALUES,
)
GRAPHS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {"jobs": st.one_of(st.lists(JOBS, max_size=4), VALUES)},
        optional={
            "name": VALUES,
            "resources": st.one_of(VALUES, st.dictionaries(st.text(max_size=3), VALUES)),
            "max_parallel": VALUES,
            "cwd": VALUES,
            "defaults": st.one_of(VALUES, st.dictionaries(FIELDS, VALUES, max_size=3)),
            "other": VALUES,
        },
    ),
)

SIGNS = """a b id jobs command needs matrix env : - , . [ ] { } ' " \\ & * ! | > # % @ ` ? ~ < = +
0 1 on 1:2 010 1e9 &a *a <<: !!str [[jobs]] ''' \"\"\" é \u2028 \ufeff"""
PIECES = st.sampled_from([*re.split("[ \n]", SIGNS), "\n", "\n  ", " ", "\t", "\r"])


def problems_of(read: Callable[[], JobGraph]) -> Sequence[str]:
    """Return what is said; nothing where a graph was read."""
    try:
        assert read().jobs
    except InputError as error:
        return error.problems
    return ()


def is_read_or_refused(text: str | bytes, kind: Format | None) -> None:
    for problem in problems_of(lambda: parse_dag_text(text, format=kind, source="F")):
        assert problem.startswith(("F:", "and "))
        assert problem.isprintable(), ascii(problem)
        assert len(problem) < 1000


@pytest.mark.parametrize("kind", FORMATS)
@given(content=st.binary(max_size=60))
@example(b"")
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf")
@example(b"\x00")
def test_any_bytes(kind: Format | None, content: bytes) -> None:
    is_read_or_refused(content, kind)


@pytest.mark.parametrize("kind", FORMATS)
@settings(deadline=None)
@given(pieces=st.lists(PIECES, max_size=25), separator=st.sampled_from(["", " "]))
def test_any_text_of_the_formats_own_signs(
    kind: Format | None, pieces: list[str], separator: str
) -> None:
    is_read_or_refused(separator.join(pieces), kind)


@pytest.mark.parametrize("kind", FORMATS)
@settings(deadline=None)
@given(
    content=st.sampled_from(
        [
            b'name: a\njobs:\n  - {id: "t{v}", command: x, matrix: {v: &v [1.10, b]}}\n  - &j\n'
            b'    id: b\n    command: [x, "{v}"]\n    needs: ["t*"]\n  - {<<: *j, id: c}\n',
            b'name = "a"\n[defaults.env]\nA = "b"\n[[jobs]]\nid = "t"\ncommand = """\nx\n"""\n'
            b"matrix = {a = [1, 2.5]}\n",
            b'{"jobs": [{"id": "t{v}", "command": "x", "matrix": {"v": [1.10, "b"]}}]}',
            b'{"name": "a"}\n{"id": "t{v}", "command": "x {v}", "matrix": {"v": [1.10]}}\n',
        ]
    ),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_any_damage_to_a_good_file(
    kind: Format | None, content: bytes, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(content)
    for place, byte in changes:
        damaged[place % len(damaged)] = byte
    is_read_or_refused(bytes(damaged), kind)


@settings(deadline=None)
@given(GRAPHS)
@example({"jobs": [], "defaults": {0: None}})
def test_any_structure_of_python_code(graph: Any) -> None:
    for problem in problems_of(lambda: parse_dag(graph, source="F")):
        assert problem.isprintable(), ascii(problem)
        assert len(problem) < 1000


@settings(deadline=None)
@given(GRAPHS)
def test_any_structure_as_json(graph: Any) -> None:
    try:
        text = json.dumps(graph)
    except (TypeError, ValueError):  # bytes, dates, integers beyond what JSON is written with
        return
    for kind in ("json", "yaml", "jsonl"):
        is_read_or_refused(text, kind)  # type: ignore[arg-type]


def test_a_structure_that_holds_itself() -> None:
    graph: dict[str, Any] = {"jobs": []}
    graph["jobs"].append(graph)
    graph["defaults"] = {"env": graph}
    with pytest.raises(InputError):
        parse_dag(graph)


@pytest.mark.parametrize("field", [*JobSpec.model_fields, "matrix"])
def test_an_integer_too_long_to_print_in_any_field(field: str) -> None:
    huge = 10**5000
    job = {"id": "a", "command": "x", field: huge}
    for graph in (
        {"jobs": [job]},
        {"jobs": [{**job, field: [huge]}]},
        {"jobs": [{**job, field: {"a": huge}}]},
        {"jobs": [{**job, field: {5: huge, "a": huge}}], "resources": {"a": 1}},
        {"jobs": [{"id": "a", "command": "x"}], "defaults": {field: huge}},
    ):
        with pytest.raises(InputError) as error:
            parse_dag(graph)
        assert all(len(problem) < 1000 for problem in error.value.problems)
    for key in ("name", "cwd", "max_parallel", "resources", "jobs", "defaults"):
        for value in (huge, [huge], {"a": huge}, {"a": [huge]}):
            with pytest.raises(InputError):
                parse_dag({"jobs": [{"id": "a", "command": "x"}], key: value})

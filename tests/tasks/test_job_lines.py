from __future__ import annotations

import io
import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tasks.dag_file import parse_dag, parse_dag_text, read_dag_file
from tasks.job_graph import JobGraph
from tasks.job_lines import graph_head, job_line, write_jobs_jsonl
from tasks.spec import JobSpec

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
WORD = TEXT.filter(lambda text: text.strip() != "")
NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
NUMBER = st.one_of(st.integers(1, 10**6), st.floats(1e-3, 1e9))
TEXTS = st.lists(TEXT, max_size=3)

OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "needs_policy": st.sampled_from(["all", "any"]),
    "group": TEXT,
    "backend": TEXT,
    "resources": st.dictionaries(TEXT, st.integers(0, 10**9), max_size=3),
    "weight": st.floats(allow_nan=False, allow_infinity=False),
    "timeout_s": NUMBER,
    "grace_s": NUMBER,
    "retries": st.integers(0, 10),
    "retry_delay_s": NUMBER,
    "retry_exit_codes": st.lists(st.integers(1, 255), max_size=3),
    "env": st.dictionaries(WORD.filter(lambda text: "=" not in text), TEXT, max_size=3),
    "cwd": TEXT,
    "inputs": TEXTS,
    "outputs": TEXTS,
    "pass_patterns": st.lists(st.sampled_from(["a+", "(x|y)", "\\d", "ü"]), max_size=3),
    "fail_patterns": st.lists(st.sampled_from(["a+", "{seed}", "[*]"]), max_size=3),
    "leftovers": st.sampled_from(["kill", "allow"]),
    "keep_previous": st.integers(0, 10),
    "interactive": st.booleans(),
    "tags": TEXTS,
}


@st.composite
def graphs(draw: st.DrawFn) -> JobGraph:
    ids = draw(
        st.lists(
            st.from_regex(r"[A-Za-z0-9_:=+,@][A-Za-z0-9._:=+,@-]{0,8}", fullmatch=True),
            min_size=1,
            max_size=5,
            unique=True,
        )
    )
    jobs = []
    for position, job_id in enumerate(ids):
        command = draw(st.one_of(WORD, st.tuples(WORD, TEXT).map(list)))
        needs = draw(st.lists(st.sampled_from(ids[:position]), unique=True)) if position else []
        names = draw(st.lists(st.sampled_from(list(OPTIONS)), unique=True, max_size=6))
        options = {name: draw(OPTIONS[name]) for name in names}
        jobs.append({"id": job_id, "command": command, "needs": needs, **options})
    jobs = draw(st.permutations(jobs))
    head = {"name": "round-trip", "max_parallel": draw(st.integers(1, 99))}
    if draw(st.booleans()):
        return parse_dag({**head, "jobs": jobs})
    amounts = {name: 10**9 for job in jobs for name in job.get("resources", {})}
    named = {name: amount for name, amount in amounts.items() if name.isidentifier()}
    if any(not name.isascii() for name in named) or len(named) < len(amounts):
        return parse_dag({**head, "jobs": jobs})
    if len({name.upper() for name in named}) < len(named):
        return parse_dag({**head, "jobs": jobs})
    return parse_dag({**head, "resources": {**named, "gpu_ids": ["0", "b"]}, "jobs": jobs})


def written(graph: JobGraph) -> str:
    stream = io.StringIO()
    write_jobs_jsonl(stream, graph)
    return stream.getvalue()


@given(graphs())
def test_a_graph_that_is_written_reads_back_equal(graph: JobGraph) -> None:
    text = written(graph)
    back = parse_dag_text(text, format="jsonl")
    assert [repr(job.to_json()) for job in back.jobs] == [
        repr(job.to_json()) for job in graph.jobs
    ]  # repr: 1, 1.0 and True differ
    assert (back.name, back.max_parallel, back.cwd) == (graph.name, graph.max_parallel, graph.cwd)
    assert back.resources == graph.resources
    assert written(back) == text


@given(graphs())
def test_what_a_record_holds_is_what_the_specification_holds(graph: JobGraph) -> None:
    for job in graph.jobs:
        spec = JobSpec.model_validate(json.loads(job_line(job)))
        for name in JobSpec.model_fields:
            if name != "group":
                assert getattr(job, name) == getattr(spec, name)
        assert {**spec.record().rest} == {**job.rest}


def test_a_line_is_ascii_and_one_line() -> None:
    job = JobSpec(id="a", command="echo 'ü\u2028\n'", env={"A": "\x1b"}).record()
    line = job_line(job)
    assert line.isascii()
    assert line.count("\n") == 1
    assert line == ('{"id":"a","command":"echo \'\\u00fc\\u2028\\n\'","env":{"A":"\\u001b"}}\n')


def test_mappings_of_python_codes_own_are_written_as_mappings() -> None:
    job = JobSpec(id="a", command="x", env=MappingProxyType({"A": "b"})).record()
    assert job_line(job) == '{"id":"a","command":"x","env":{"A":"b"}}\n'


def test_the_written_file_runs_from_anywhere(tmp_path: Path) -> None:
    graph = parse_dag({"jobs": [{"id": "a", "command": "x", "cwd": "sub"}]}, cwd=tmp_path / "work")
    (tmp_path / ".jobs.jsonl").write_text(written(graph))
    assert read_dag_file(str(tmp_path / ".jobs.jsonl")).cwd == tmp_path / "work"


def test_a_head_says_only_what_is_known() -> None:
    graph = parse_dag({"jobs": [{"id": "a", "command": "x"}]}, cwd=Path("/srv"))
    assert graph_head(graph) == {"name": "dag", "cwd": "/srv"}

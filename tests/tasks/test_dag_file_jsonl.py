from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dag_files import graph, problems

from tasks import dag_file_jsonl
from tasks.dag_file import parse_dag, read_dag_file
from tasks.dag_file_jsonl import BLOCK_BYTES, MAX_LINE_BYTES, JobLines
from tasks.dag_file_problems import Problems
from tasks.errors import InputError


def said(text: str | bytes) -> list[str]:
    return problems(text, "jsonl")


def test_the_first_line_without_an_id_is_the_head() -> None:
    read = graph(
        '\n{"name": "big", "cwd": "/srv", "max_parallel": 3, "resources": {"gpu": 1},'
        ' "defaults": {"retries": 2}}\n\n{"id": "a", "command": "x"}\n',
        "jsonl",
    )
    assert (read.name, str(read.cwd), read.max_parallel) == ("big", "/srv", 3)
    assert read.resources == {"gpu": 1}
    assert read.jobs[0].retries == 2


def test_an_empty_head_is_a_head() -> None:
    assert len(graph('{}\n{"id": "a", "command": "x"}', "jsonl").jobs) == 1


def test_line_ends_of_windows_a_byte_order_mark_and_blank_lines_are_fine() -> None:
    text = b'\xef\xbb\xbf{"id": "a", "command": "x"}\r\n\r\n  \r\n{"id": "b", "command": "x"}\r\n'
    assert [job.id for job in graph(text, "jsonl").jobs] == ["a", "b"]


def test_every_bad_line_is_named_by_its_number() -> None:
    assert said(
        b'{"name": "x", "jobs": []}\n'
        b'{"id": "a", "command": "x", "retries": "two", "env": {"V": 1.10}}\n'
        b"\n"
        b'{"id": "a", "id": "b", "command": "x"}\n'
        b'{"id": "c", "command": "x",}\n'
        b'{"id": "d", "command": "\xff"}\n'
        b'{"id": "e", "command": "x", "needs": ["f"]}\n'
        b'{"id": "f", "command": "x", "needs": ["e"]}\n'
        b'{"id": "f", "command": "x", "env": {"A": "a", "A": "b"}}\n'
        b'{"command": "x"}\n'
        b"[1]\n"
        b"null\n"
        b'"text"\n'
        b'{"id": "g", "command": "x", "retries": ' + b"9" * 5000 + b"}\n"
        b'{"id": "h", "command": ' + b"[" * 100_000 + b"\n"
        b'{"id": "i", "command": "\\ud800"}\n'
    ) == [
        "1: jobs: a head has no jobs; in JSON Lines they follow, one a line",
        '2: retries: "two" is no integer; give an integer >= 0',
        '2: env.V: 1.10 is a number here; quote it: "1.10"',
        "4: id: is given twice; keep one",
        "5: column 28: is no JSON: Expecting property name enclosed in double quotes; "
        "give one job a line",
        "6: column 25: is no UTF-8 (byte 0xff)",
        '7: needs: dependency cycle: e -> f -> e; remove one of these "needs"',
        "9: env.A: is given twice; keep one",
        '9: id: "f" is also the id of line 8; ids must differ',
        "10: id: is missing; give 1 to 200 of A-Z a-z 0-9 . _ : = + , @ - that do not begin "
        "with . or -",
        "11: a list is no job; give a mapping with id and command",
        "12: nothing is no job; give a mapping with id and command",
        '13: "text" is no job; give a mapping with id and command',
        "14: holds an integer of more than 4,300 digits",
        "15: is nested too deeply for a job",
        '16: command: "\\ud800" is no valid Unicode text; give text for /bin/sh -c, or a list of '
        "words that is executed as it is",
    ]


def test_a_first_line_that_is_neither_head_nor_job() -> None:
    assert said('{"command": "x"}\n{"id": "a", "command": "x"}\n') == [
        '1: has no "id"; only a head may stand there without one, as first line'
    ]
    assert said('[]\n{"id": "a", "command": "x"}\n') == [
        "1: a list is no job; give a mapping with id and command"
    ]


def test_one_document_over_many_lines_is_told_to_be_json() -> None:
    assert said('{\n "jobs": []\n}\n') == [
        "1: column 2: is no JSON: Expecting property name enclosed in double quotes; "
        "give one job a line",
        "1: is no JSON Lines, whose lines are whole jobs; name the file .json",
    ]


def test_a_job_may_need_a_later_one_and_globs_see_the_whole_file() -> None:
    read = graph(
        '{"id": "a", "command": "x", "needs": ["b", "t-*"]}\n'
        '{"id": "b", "command": "x"}\n{"id": "t-{i}", "command": "x", "matrix": {"i": [1, 2]}}\n',
        "jsonl",
    )
    assert read.jobs[0].needs == ("b", "t-1", "t-2")
    assert read.jobs[0].needs[0] is read.jobs[1].id


def test_a_matrix_line_knows_how_its_numbers_are_written() -> None:
    read = graph('{"id": "t{v}", "command": "x {v}", "matrix": {"v": [1.10, 2e3, true]}}', "jsonl")
    assert [job.command for job in read.jobs] == ["x 1.10", "x 2e3", "x true"]


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
def test_lines_may_be_cut_anywhere_between_two_blocks(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dag_file_jsonl, "BLOCK_BYTES", size)
    lines = ['{"name": "x"}', *(f'{{"id": "j{i}", "command": "ü {i}"}}' for i in range(50))]
    content = "\n".join(lines).encode()
    stream = io.BytesIO(content)
    # The first bytes were taken from the stream by whoever found out the format.
    _, builder = JobLines(Problems("F")).read(stream, stream.read(size))
    assert [job.command for job in builder.finish()] == [f"ü {i}" for i in range(50)]


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            assert self.given < MAX_LINE_BYTES + 3 * BLOCK_BYTES
            return b"x" * size

    with pytest.raises(InputError, match=r"F: a line has more than 16 MiB"):
        JobLines(Problems("F")).read(Endless())  # type: ignore[arg-type]


def test_the_text_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    command = "x" * 2000
    with path.open("w") as stream:
        for i in range(10_000):
            stream.write(f'{{"id": "j{i}", "command": "{command}"}}\n')
    assert path.stat().st_size > 20_000_000
    tracemalloc.start()
    try:
        read = read_dag_file(str(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(read.jobs) == 10_000
    assert peak < 12_000_000


@pytest.mark.parametrize(
    "line",
    [
        '{"id":"a","id":"a","command":"x"}',
        '{"id":"a","id":"a","command" :"x"}',
        '{"id":"a","id":"a","command"\t:"x"}',
        '{"id":"a","id":"a","command"\r:"x"}',
        '{"id":"a","id":"a","command"  :"x"}',
        '{"id":"a","\\u0069d":"a","command":"x"}',
        '{"id":"a","command":"x","env":{"A":"a","A":"b"}}',
        '{"id":"a","command":"x","env":{"A":"a","A" :"b"}}',
        '{"id":"a","command":"x","env":{},"env":{"A":"b"}}',
        '{"id":"a","command":"x","resources":{"A":1,"A":1}}',
        '{"id":"a","command":"x","env":{"A":"a"},"env":{}}',
    ],
)
def test_a_key_that_is_given_twice_is_found_however_it_is_written(line: str) -> None:
    assert any("is given twice" in problem for problem in said(line + "\n"))


TEXTS = st.text(
    st.sampled_from("ab\":{}[],\\ \t\r'é\u2028"), max_size=8
)  # what could confuse a count of quotes and colons


@st.composite
def json_pairs(draw: st.DrawFn) -> tuple[str, bool]:
    """Return a job's line with spaces anywhere, and whether a key comes twice in a mapping."""

    def space() -> str:
        return draw(st.sampled_from(["", "", " ", "\t", "\r", "  "]))

    def mapping(pairs: list[tuple[str, str]]) -> str:
        inner = f"{space()},{space()}".join(
            f"{space()}{json.dumps(key)}{space()}:{space()}{text}{space()}" for key, text in pairs
        )
        return "{" + inner + "}"

    def text() -> str:
        return json.dumps(draw(TEXTS), ensure_ascii=draw(st.booleans()))

    env = draw(st.lists(st.sampled_from(["A", "B", "C"]), max_size=4))
    words = "[" + ", ".join(['"x"', *(text() for _ in range(draw(st.integers(0, 2))))]) + "]"
    pairs = [("id", '"a"'), ("command", words)]
    more = {
        "env": mapping([(key, text()) for key in env]),
        "group": text(),
        "resources": '{"gpu":1}',
        "tags": f"[{text()}]",
    }
    pairs += [(key, more[key]) for key in draw(st.lists(st.sampled_from(list(more)), max_size=4))]
    keys = [key for key, _ in pairs]
    used_env = env if "env" in keys else []
    repeats = len(set(keys)) < len(keys) or len(set(used_env)) < len(used_env)
    return mapping(draw(st.permutations(pairs))), repeats


@given(json_pairs())
def test_the_quick_way_reads_as_the_slow_one_and_misses_no_repeated_key(
    line_and_repeats: tuple[str, bool],
) -> None:
    line, repeats = line_and_repeats
    if repeats:
        assert any("is given twice" in problem for problem in said(line))
        return
    expected = parse_dag({"jobs": [json.loads(line)]}).jobs[0].to_json()
    assert graph(line, "jsonl").jobs[0].to_json() == expected


def test_a_job_is_validated_the_same_in_json_lines_as_in_a_document() -> None:
    job: dict[str, Any] = {"id": "a", "command": ["sleep", 5], "env": {"A": 1}, "timeout_s": 5}
    quick = graph(json.dumps(job), "jsonl").jobs[0]
    assert quick.to_json() == parse_dag({"jobs": [job]}).jobs[0].to_json()
    assert quick.command == ("sleep", "5")

"""Patterns are found line by line in logs of any kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import log_scan
from backends.log_scan import Found, scan_log


def log(folder: Path, content: bytes) -> Path:
    path = folder / "log.txt"
    path.write_bytes(content)
    return path


def test_the_first_matching_line_is_told_with_its_number(tmp_path: Path) -> None:
    path = log(tmp_path, b"ok\nUVM_ERROR one\nUVM_ERROR two\n")
    assert scan_log(path, ["UVM_(ERROR|FATAL)", "absent"]) == {
        "UVM_(ERROR|FATAL)": Found(2, "UVM_ERROR one")
    }


@pytest.mark.parametrize(
    ("pattern", "content", "line_number"),
    [
        ("^b$", b"a\nb\nc\n", 2),
        (r"b\Z", b"b c\nab\n", 2),
        ("x(?!y)", b"xy\nx\ny", 2),
        (r"(?<=a)b", b"b\nab\n", 2),
        ("(?i)PASS", b"it passed", 1),
        (r"end$", b"the end\r\nnext", 1),
        ("é", "caf\u00e9".encode(), 1),
        (r"\t", b"a\n\tb", 2),
        ("", b"\nx", 1),
        ("a++b", b"aab", 1),
    ],
)
def test_anchors_and_looks_around_hold_for_the_line(
    tmp_path: Path, pattern: str, content: bytes, line_number: int
) -> None:
    assert scan_log(log(tmp_path, content), [pattern])[pattern].line_number == line_number


@pytest.mark.parametrize("pattern", [r"a\s+b", "a[^x]*b", r"a\nb"])
def test_no_match_reaches_over_the_end_of_a_line(tmp_path: Path, pattern: str) -> None:
    assert scan_log(log(tmp_path, b"a\nb\n" * 100), [pattern]) == {}


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    path = log(tmp_path, b"\xff\xfe\0\n" + bytes(range(256)) + b"\nTEST PASSED\n")
    assert "TEST PASSED" in scan_log(path, ["TEST PASSED"])


def test_lines_are_whole_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_scan, "BLOCK_BYTES", 7)
    path = log(tmp_path, b"first line\nsecond TEST PASSED line\nthird\n")
    pattern = "^second TEST PASSED line$"
    assert scan_log(path, [pattern])[pattern].line_number == 2


def test_a_pattern_is_found_across_the_pieces_of_a_line_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_scan, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(log_scan, "LONGEST_LINE_BYTES", 4000)
    monkeypatch.setattr(log_scan, "OVERLAP_BYTES", 100)
    for before in range(4900, 5100, 7):
        path = log(tmp_path, b"x" * before + b"TEST PASSED" + b"y" * 3000)
        assert "TEST PASSED" in scan_log(path, ["TEST PASSED"])


@given(
    lines=st.lists(st.text("ab \n.", max_size=6), max_size=12),
    pattern=st.sampled_from(["a", "^a", "b$", "a.b", r"a\s*b", "a[^a]*b", "^$", r"\ba", "a|b b"]),
)
def test_a_block_finds_what_line_by_line_finds(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], pattern: str
) -> None:
    content = "\n".join(lines)
    expected = next(
        (
            number
            for number, line in enumerate(content.removesuffix("\n").split("\n"), start=1)
            if content and re.search(pattern, line)
        ),
        None,
    )
    path = log(tmp_path_factory.mktemp("log"), content.encode())
    found = scan_log(path, [pattern]).get(pattern)
    assert (found.line_number if found else None) == expected

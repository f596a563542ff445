"""The last lines of a log, whatever a job wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from observers.log_tail import last_lines


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def test_the_last_lines_that_say_something_are_returned(log: Path) -> None:
    log.write_text("one\ntwo\n\nthree  \n   \n")
    assert last_lines(log, 2) == ["two", "three"]
    assert last_lines(log, 9) == ["one", "two", "three"]
    assert last_lines(log, 0) == []


def test_nothing_that_steers_a_terminal_is_left(log: Path) -> None:
    log.write_bytes(
        b"\x1b[31mred\x1b[0m \x1b]0;title\x07"
        b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x1b(B\x1b[m end\n"
        b"bell\x07 back\x08 \x9b31m \x00nul \xe2\x80\xae reversed\n"
        b"\xff\xfe no utf-8\n"
    )
    first, second, third = last_lines(log, 3)
    assert first == "red link end"
    assert second == "bell� back� �31m �nul � reversed"
    assert third == "�� no utf-8"
    assert not any(
        ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in first + second + third
    )


def test_a_bar_that_was_drawn_over_itself_reads_as_its_last_state(log: Path) -> None:
    log.write_bytes(b"10 %\r50 %\r100 %\r\ndone\r\n")
    assert last_lines(log, 2) == ["100 %", "done"]


def test_a_huge_line_is_bounded_and_little_of_a_huge_log_is_read(log: Path) -> None:
    with log.open("wb") as stream:
        stream.truncate(5 << 30)
        stream.seek(0, os.SEEK_END)
        stream.write(b"x" * 100_000 + b"\nthe end\n")
    huge, end = last_lines(log, 2, limit=80)
    assert end == "the end"
    assert huge == "x" * 79 + "…"


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "link", "unreadable folder"])
def test_what_is_no_log_has_no_lines_and_holds_nobody_up(log: Path, kind: str) -> None:
    if kind == "folder":
        log.mkdir()
    elif kind == "pipe":
        os.mkfifo(log)
    elif kind == "link":
        log.symlink_to("/etc/hostname")
    elif kind == "unreadable folder":
        log = log.parent / "file" / "log.txt"
        log.parent.write_text("")
    assert last_lines(log, 3) == []

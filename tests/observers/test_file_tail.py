"""Following a job's log: every byte, across attempts, without hanging on what jobs put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from observers.file_tail import FileTail


def test_every_byte_is_handed_out_once_in_bounded_pieces(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    tail = FileTail(log)
    assert tail.read() == b""
    log.write_bytes(b"\0\xff" * 500)
    pieces = [tail.read(300) for _ in range(5)]
    assert [len(piece) for piece in pieces] == [300, 300, 300, 100, 0]
    assert b"".join(pieces) == b"\0\xff" * 500
    tail.close()


def test_the_log_of_the_next_attempt_follows_what_was_left_of_the_last(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"first ")
    tail = FileTail(log)
    assert tail.read() == b"first "
    with log.open("ab") as stream:
        stream.write(b"attempt")
    log.rename(tmp_path / "log.1.txt")
    log.write_bytes(b"second")
    assert tail.wait(5) is True
    assert [tail.read(), tail.read(), tail.read()] == [b"attempt", b"second", b""]
    tail.close()


def test_reading_may_begin_in_the_middle(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"0123456789")
    tail = FileTail(log, offset=7)
    assert tail.read() == b"789"
    tail.close()


def test_a_pipe_or_a_link_in_place_of_a_log_holds_nobody_up(tmp_path: Path) -> None:
    # Sabotage: without O_NONBLOCK opening the pipe hangs, without O_NOFOLLOW the link is read.
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("/etc/hostname")
    for path in (pipe, link):
        tail = FileTail(path)
        with pytest.raises(OSError, match=r"."):
            tail.read()
        tail.close()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        log.unlink(missing_ok=True)
        log.write_bytes(b"x")
        tail = FileTail(log)
        tail.read()
        log.rename(tmp_path / "log.1.txt")
        log.write_bytes(b"y")
        assert tail.read() == b"y"
        tail.close()
    assert set(os.listdir("/proc/self/fd")) == before

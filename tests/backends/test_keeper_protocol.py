"""Whatever a peer sends is taken apart safely."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.keeper.job import LaunchRequest
from backends.keeper.protocol import (
    MAX_FRAME_BYTES,
    FrameReader,
    ProtocolError,
    encode,
    numbers_field,
    seconds_field,
    whole_field,
)
from backends.keeper.settings import Settings


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@given(st.lists(st.dictionaries(st.text(), st.text()), max_size=5), st.integers(1, 50))
def test_messages_survive_any_cut(contents: list[dict[str, str]], piece: int) -> None:
    messages = [{**content, "type": "x"} for content in contents]
    stream = b"".join(encode(message) for message in messages)
    reader, received = FrameReader(), []
    for start in range(0, len(stream), piece):
        received += reader.feed(stream[start : start + piece])
    assert received == messages


def test_names_that_are_no_utf8_come_through() -> None:
    message = {"type": "launch", "path": "caf\udce9"}
    assert FrameReader().feed(encode(message)) == [message]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[1, 2]",
        b"{}",
        b'{"type": 3}',
        b'{"type": "x", "n": ' + b"9" * 10_000 + b"}",
        b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_frame_that_is_no_message_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameReader().feed(frame(body))


def test_a_frame_that_claims_to_be_huge_is_refused_before_it_is_received() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        FrameReader().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        encode({"type": "x", "text": "y" * MAX_FRAME_BYTES})


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "3", True, [], 1e15])
def test_seconds_are_finite_and_not_negative(value: Any) -> None:
    with pytest.raises(ProtocolError):
        seconds_field({"type": "x", "grace_s": value}, "grace_s")


@pytest.mark.parametrize("value", [-1, 1.5, "3", True, None])
def test_whole_numbers_are_whole(value: Any) -> None:
    with pytest.raises(ProtocolError):
        whole_field({"type": "x", "pid": value}, "pid")


@pytest.mark.parametrize("value", ["12", [1, "2"], [True], {"1": 2}, 3])
def test_job_numbers_are_a_list_of_whole_numbers(value: Any) -> None:
    with pytest.raises(ProtocolError):
        numbers_field({"type": "x", "numbers": value}, "numbers")


GOOD_REQUEST: list[Any] = [1, 1, "a", ["true"], "/", {}, None, 2.0, False]


@pytest.mark.parametrize(
    ("index", "value"),
    [(0, "1"), (1, None), (2, 3), (3, "true"), (4, None), (5, []), (6, "3"), (7, None)],
)
def test_a_launch_request_with_a_wrong_field_is_refused(index: int, value: Any) -> None:
    LaunchRequest(GOOD_REQUEST)
    with pytest.raises(ProtocolError):
        LaunchRequest([*GOOD_REQUEST[:index], value, *GOOD_REQUEST[index + 1 :]])


@pytest.mark.parametrize("fields", [[], None, 3, GOOD_REQUEST[:-1], [*GOOD_REQUEST, 1]])
def test_a_launch_request_of_another_shape_is_refused(fields: Any) -> None:
    with pytest.raises(ProtocolError):
        LaunchRequest(fields)


@pytest.mark.parametrize("missing", ["job", "user", "modes"])
def test_the_terminal_of_a_launch_request_is_whole(missing: str) -> None:
    terminal = {"job": "/dev/pts/1", "user": "/dev/pts/0", "modes": []}
    assert LaunchRequest([*GOOD_REQUEST, terminal]).terminal == terminal
    assert LaunchRequest(GOOD_REQUEST).terminal is None
    with pytest.raises(ProtocolError):
        LaunchRequest([*GOOD_REQUEST, {**terminal, missing: 1}])


GOOD_CONTEXT = {
    "run": "r",
    "number": 1,
    "run_directory": "/r",
    "socket": "/s",
    "cwd": "/",
    "environment": {"A": "1"},
    "on_crash": "kill",
    "adopt_within_s": 1.0,
    "grace_s": 2,
    "settle_command": [],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run", 3),
        ("number", -1),
        ("environment", {"A": 1}),
        ("environment", None),
        ("adopt_within_s", None),
        ("settle_command", "settle"),
        ("settle_command", [1]),
    ],
)
def test_a_context_with_a_wrong_field_is_refused(name: str, value: Any) -> None:
    Settings(json.loads(json.dumps(GOOD_CONTEXT)))
    with pytest.raises(ProtocolError):
        Settings({**GOOD_CONTEXT, name: value})

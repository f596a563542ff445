"""What keeper and driver say to each other: JSON objects in frames with a length in front.

A connection begins with a ``hello`` that names the protocol and the role: ``driver`` (one at a
time) or ``control``.  Everything a peer can send is bounded and checked; what is malformed ends
that connection and nothing else.
"""

from __future__ import annotations

import json
from typing import Any

PROTOCOL = 1
"""Grows with every change that an older keeper or driver would misunderstand."""

MAX_FRAME_BYTES = 16 * 1024 * 1024

Message = dict[str, Any]

_HEADER_BYTES = 4
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class ProtocolError(Exception):
    """A peer sent what no honest peer sends; its connection ends."""


def encode(message: Message) -> bytes:
    """Return the message as a frame; raises ``ProtocolError`` if it is too long for one."""
    # ASCII escapes carry names that are no UTF-8 (lone surrogates) through unharmed.
    body = _ENCODER.encode(message).encode("ascii")
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a message of {len(body)} bytes; at most {MAX_FRAME_BYTES} fit")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class FrameReader:
    """Turns what arrives, in whatever pieces, into messages."""

    __slots__ = ("_received",)

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete now; raises ``ProtocolError``."""
        received = self._received
        received += data
        messages = []
        start = 0
        while len(received) - start >= _HEADER_BYTES:
            length = int.from_bytes(received[start : start + _HEADER_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} fit")
            end = start + _HEADER_BYTES + length
            if len(received) < end:
                break
            messages.append(_decode(bytes(received[start + _HEADER_BYTES : end])))
            start = end
        del received[:start]
        return messages


def _decode(body: bytes) -> Message:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no JSON: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError("not an object with a type")
    return message


def text_field(message: Message, name: str) -> str:
    """Return a text of the message; raises ``ProtocolError`` where it is none."""
    value = message.get(name)
    if not isinstance(value, str):
        raise ProtocolError(f"{name!r} is not a text")
    return value


def whole_field(message: Message, name: str) -> int:
    """Return a whole number that is not negative; raises ``ProtocolError`` where it is none."""
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ProtocolError(f"{name!r} is not a whole number")
    return value


def seconds_field(message: Message, name: str) -> float | None:
    """Return seconds or ``None``; raises ``ProtocolError`` for anything else."""
    value = message.get(name)
    if value is None:
        return None
    # The comparison is false for NaN, so that it is refused too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ProtocolError(f"{name!r} is no time in seconds")
    return float(value)


def numbers_field(message: Message, name: str) -> list[int] | None:
    """Return job numbers, ``None`` for all; raises ``ProtocolError`` for anything else."""
    value = message.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        raise ProtocolError(f"{name!r} is no list of job numbers")
    return value

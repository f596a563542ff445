"""Text from jobs as text: no control character of theirs reaches a terminal or a page."""

from __future__ import annotations

import re

# ESC sequences: CSI, OSC, character sets (what `tput sgr0` writes), two-character ones.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]+[0-~]|\x1b[@-Z\\-_]?"
)
# Every control character but tab and newline, what turns the direction of writing, line ends of
# Unicode's own, and halves of characters, which no stream can write.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def plain_text(text: str | bytes) -> str:
    """Return the text without escape sequences and control characters; newlines stay.

    Bytes are read as UTF-8; what is none becomes the replacement character.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text).replace("\r\n", "\n"))


def one_line(text: str | bytes, limit: int = 500) -> str:
    """Return the text on one line of at most ``limit`` characters."""
    line = " ".join(plain_text(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"

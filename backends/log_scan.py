"""Looking for patterns in a log of any size, line by line, in bounded memory and time slices.

The log is read in blocks that end at line breaks.  Reading lets other threads run; the matching
of one block is short, so the driver stays awake beside a log of a gigabyte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 256 * 1024
LONGEST_LINE_BYTES = 1024 * 1024
"""A longer line is looked at in pieces."""

OVERLAP_BYTES = 4096
"""How much of a piece is looked at again with the next: the longest match that none tears."""

_MOST_IN_VAIN = 32
"""A pattern whose matches keep reaching over line ends is faster looked for line by line."""

# What sees beyond its own match, or gives nothing back, may find less in a block than in a line.
_NEEDS_LINES = re.compile(r"\\[AZB]|\(\?[=!<>(]|[*+?}]\+")


@dataclass(frozen=True, slots=True)
class Found:
    """The first line that a pattern matches."""

    line_number: int
    """From 1."""
    line: str


def scan_log(log: Path, patterns: Sequence[str]) -> dict[str, Found]:
    """Return for each pattern that matches within some line the first such line.

    Bytes that are no UTF-8 read as the replacement character; a carriage return at the end of
    a line does not count.  Raises ``OSError`` where the log cannot be read.
    """
    searches = [_Search(pattern) for pattern in dict.fromkeys(patterns)]
    lines_before = 0
    for block in _blocks(log):
        text = block.decode("utf-8", "replace")
        open_searches = [search for search in searches if search.found is None]
        if not open_searches:
            break
        for search in open_searches:
            search.look(text, lines_before)
        lines_before += text.count("\n")
    return {search.pattern: search.found for search in searches if search.found is not None}


def _blocks(log: Path) -> Iterator[bytes]:
    """Yield blocks of whole lines, or pieces of a line that is too long."""
    rest = b""
    with log.open("rb", buffering=0) as stream:
        while data := stream.read(BLOCK_BYTES):
            rest += data
            end = rest.rfind(b"\n") + 1
            if end:
                yield rest[:end].replace(b"\r\n", b"\n")
                rest = rest[end:]
            elif len(rest) > LONGEST_LINE_BYTES:
                yield rest
                rest = rest[-OVERLAP_BYTES:]
    if rest:
        yield rest.removesuffix(b"\r")


class _Search:
    """One pattern on its way through a log."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.found: Found | None = None
        self._in_line = re.compile(pattern)
        self._in_block = None if _NEEDS_LINES.search(pattern) else _in_block(pattern)

    def look(self, text: str, lines_before: int) -> None:
        """Look through whole lines; ``lines_before`` came earlier."""
        for start, end in self._candidates(text):
            line = text[start:end]
            if self._in_line.search(line):
                self.found = Found(lines_before + text.count("\n", 0, start) + 1, line)
                return

    def _candidates(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the lines that may match, as start and end: all of them, or by a fast look."""
        position = 0
        in_vain = 0
        while position < len(text):
            if self._in_block is not None:
                match = self._in_block.search(text, position)
                if match is None:
                    return
                # A match may reach over the end of a line that does not match by itself.
                position = text.rfind("\n", 0, match.start()) + 1
                if position == len(text):  # after the last line break there is no line
                    return
                in_vain += 1
                if in_vain > _MOST_IN_VAIN:
                    self._in_block = None
            end = text.find("\n", position)
            end = len(text) if end < 0 else end
            yield position, end
            position = end + 1


def _in_block(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern, re.MULTILINE)
    except re.error:  # pragma: no cover - what compiles without the flag compiles with it
        return None

"""Reads files of JSON objects, one a line, that may have been torn at their end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.errors import HoldfastError

JsonObject = dict[str, Any]


class DamagedFileError(HoldfastError):
    """A file of a run that cannot be understood, and where."""


def read_json_lines(path: Path) -> Iterator[JsonObject]:
    """Yield the objects of the file, one for each line.

    Lines at the end that are torn or no JSON objects, as a power cut leaves them, are ignored.
    Raises ``OSError`` where there is no such file, ``DamagedFileError`` for such lines elsewhere.
    """
    damaged_line = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            value = parse_json_line(line)
            if value is None:
                damaged_line = damaged_line or number
                continue
            if damaged_line:
                raise DamagedFileError(
                    f'"{path}", line {damaged_line}: no JSON object; whole lines follow, so this '
                    "is no torn end: restore the file or remove that line"
                )
            yield value


def parse_json_line(line: bytes) -> JsonObject | None:
    """Return the object that the line holds, or ``None`` if it is torn or holds none."""
    if not line.endswith(b"}\n"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None

"""Which format a DAG file has, and its bytes as text."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import PurePath
from typing import Literal

from tasks.dag_file_problems import Problems

Format = Literal["yaml", "toml", "json", "jsonl"]

SUFFIXES: dict[str, Format] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}

_TOML_START = re.compile(rb"\[\[?[\w\"'. -]+\]\]?\s*(#|$)|[\w\"'.-]+[ \t]*=")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def format_of(path: str) -> Format | None:
    """Return the format that the file's suffix names; ``None`` for another suffix or none."""
    return SUFFIXES.get(PurePath(path).suffix.lower())


def sniffed_format(first: bytes) -> Format:
    """Return the format that a text with this beginning seems to have."""
    text = first.removeprefix(codecs.BOM_UTF8).lstrip()
    if text[:1] in (b"{", b"["):
        return _kind_of_json(text)
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith(b"#"):
            return "toml" if _TOML_START.match(line.strip()) else "yaml"
    return "yaml"


def decoded(content: bytes, problems: Problems) -> str:
    """Return the text; raises ``InputError`` where the bytes are no UTF-8 text."""
    if content.startswith(_UTF_16):
        problems.fail("is UTF-16; save it as UTF-8")
    nul = content.find(b"\0")
    if nul >= 0:
        problems.fail("holds a NUL byte; give a text file", line=content.count(b"\n", 0, nul) + 1)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start
        column = start - content.rfind(b"\n", 0, start)
        problems.fail(
            f"column {column}: is no UTF-8 (byte 0x{content[start]:02x}); save it as UTF-8",
            line=content.count(b"\n", 0, start) + 1,
        )


def _kind_of_json(text: bytes) -> Format:
    """Tell JSON Lines, whose first line is a whole value of its own, from one document."""
    first_line, _, rest = text.partition(b"\n")
    try:
        value = json.loads(first_line)
    except (ValueError, RecursionError):
        return "json"
    is_job = isinstance(value, dict) and "jobs" not in value
    return "jsonl" if rest.strip() or (is_job and "id" in value) else "json"

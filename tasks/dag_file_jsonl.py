"""JSON Lines: one job a line, read as a stream, for graphs of a million jobs.

The text is never in memory as a whole.  A line that is a valid job is parsed and validated in one
step by pydantic; every other line (the head, a job with a matrix, a wrong one) goes the long way,
which knows what is wrong with it.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import BinaryIO

from pydantic import ValidationError

from tasks.dag_file_json import json_places
from tasks.dag_file_places import Places
from tasks.dag_file_problems import Path, Problems, field_label
from tasks.dag_head import HEAD_KEYS, Head, read_head
from tasks.graph_builder import GraphBuilder
from tasks.shown import shown
from tasks.spec import JobSpec

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20

_validate_json = JobSpec.__pydantic_validator__.validate_json


class JobLines:
    """Reads the lines of one stream; the lines read so far give places to messages."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._number = 0
        self._text = ""
        self._repeats_key = False
        self._decode = json.JSONDecoder(object_pairs_hook=self._as_mapping).decode

    def read(self, stream: BinaryIO, first: bytes = b"") -> tuple[Head, GraphBuilder]:
        """Return the head and the builder that took every job.

        ``first`` are bytes that were already taken from the stream.  Problems of single lines are
        collected; raises ``InputError`` where it makes no sense to go on, ``OSError`` as the
        stream does.
        """
        lines = chain.from_iterable(self._blocks(stream, first))
        head, line = self._first_line(lines)
        builder = GraphBuilder(head, self._problems, self)
        if line is not None:
            self._take(builder, line)
        if head.defaults:
            self._read_slowly(builder, lines)
        else:
            self._read_quickly(builder, lines)
        return head, builder

    def line(self, entry: int, path: Path) -> int | None:
        """Return the line: it is the entry."""
        return entry

    def label(self, entry: int, path: Path) -> str:
        """Return the path inside the job."""
        return field_label(path)

    def name(self, entry: int) -> str:
        """Return the line by name."""
        return f"line {entry}"

    def spelling(self, entry: int, path: Path) -> str | None:
        """Return how a number of the newest line is written; older lines are gone."""
        return self._places().spelling(path) if entry == self._number else None

    def _first_line(self, lines: Iterator[bytes]) -> tuple[Head, bytes | None]:
        """Return the head, and the first line where it is none but a job."""
        for line in lines:
            self._number += 1
            if line.strip():
                value = self._parsed(line)
                if line.strip() in (b"{", b"["):
                    text = "is no JSON Lines, whose lines are whole jobs; name the file .json"
                    self._problems.fail(text, line=self._number)
                if isinstance(value, Mapping) and "id" not in value:
                    return self._head(value), None
                return Head(), line
        return Head(), None

    def _head(self, value: Mapping[str, object]) -> Head:
        if "jobs" in value:
            self._report(("jobs",), "a head has no jobs; in JSON Lines they follow, one a line")
        elif value and not value.keys() & {*HEAD_KEYS}:
            self._report((), 'has no "id"; only a head may stand there without one, as first line')
            return Head()
        rest = {key: item for key, item in value.items() if key != "jobs"}
        return read_head(rest, self._report, lambda path: self._places().spelling(path))

    def _read_quickly(self, builder: GraphBuilder, lines: Iterator[bytes]) -> None:
        keep = builder.keep
        number = self._number
        for line in lines:
            number += 1
            try:
                spec = _validate_json(line)
            except ValidationError:
                if line.strip():
                    self._number = number
                    self._take(builder, line)
                continue
            if _gives_keys_once(line, spec):
                keep(number, spec)
            else:
                self._number = number
                self._take(builder, line)
        self._number = number

    def _read_slowly(self, builder: GraphBuilder, lines: Iterator[bytes]) -> None:
        for line in lines:
            self._number += 1
            if line.strip():
                self._take(builder, line)

    def _take(self, builder: GraphBuilder, line: bytes) -> None:
        value = self._parsed(line)
        if value is not None:
            builder.add(self._number, value)

    def _parsed(self, line: bytes) -> object:
        """Return the value of the line; ``None`` where it is none, which is then reported."""
        self._text = ""
        self._repeats_key = False
        try:
            self._text = line.decode()
            value: object = self._decode(self._text)
        except UnicodeDecodeError as error:
            text = f"column {error.start + 1}: is no UTF-8 (byte 0x{line[error.start]:02x})"
        except json.JSONDecodeError as error:
            text = f"column {error.colno}: is no JSON: {error.msg}; give one job a line"
        except RecursionError:
            text = "is nested too deeply for a job"
        except ValueError:
            text = "holds an integer of more than 4,300 digits"
        else:
            if self._repeats_key:
                for path, _, _ in json_places(self._text).repeated:
                    self._report(path, "is given twice; keep one")
            if value is not None:
                return value
            text = f"{shown(value)} is no job; give a mapping with id and command"
        self._report((), text)
        return None

    def _as_mapping(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            self._repeats_key = True
        return mapping

    def _places(self) -> Places:
        return json_places(self._text) if self._text else Places()

    def _report(self, path: Path, text: str) -> None:
        self._problems.add(text, line=self._number, label=field_label(path))

    def _blocks(self, stream: BinaryIO, first: bytes) -> Iterator[list[bytes]]:
        """Yield the lines of the stream, those of one block at a time."""
        rest = b""
        block = (first or stream.read(BLOCK_BYTES)).removeprefix(codecs.BOM_UTF8)
        while block:
            if b"\0" in block:
                self._problems.fail("holds a NUL byte; give a text file")
            lines = block.split(b"\n")
            lines[0] = rest + lines[0]
            rest = lines.pop()
            if len(rest) > MAX_LINE_BYTES:
                self._problems.fail(f"a line has more than {MAX_LINE_BYTES >> 20} MiB")
            yield lines
            block = stream.read(BLOCK_BYTES)
        if rest:
            yield [rest]


def _gives_keys_once(line: bytes, spec: JobSpec) -> bool:
    """Tell whether a line that was read as ``spec`` gives no key twice; in doubt it says no.

    A quote and a colon stand next to each other behind each key (where there is no space between
    the two), and perhaps in texts.  So the line has at least as many such pairs as keys, and as
    many pairs as different keys means that no key came again.
    """
    given = spec.__pydantic_fields_set__
    keys = len(given)
    if b'" ' in line or b'"\t' in line or b'"\r' in line:
        return False
    found = line.count(b'":')
    if found == keys:
        return True
    if "env" in given:
        keys += len(spec.env)
    if "resources" in given:
        keys += len(spec.resources)
    return found == keys

"""JSON as a document whose values have lines; a key that is given twice is an error."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache

from tasks.dag_file_places import Document, Places
from tasks.dag_file_problems import Path, Problems, field_label

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def read_json_document(text: str, problems: Problems) -> Document:
    """Return the document; raises ``InputError`` where the text is no JSON."""
    repeated = False

    def as_mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal repeated
        mapping = dict(pairs)
        repeated = repeated or len(mapping) < len(pairs)
        return mapping

    try:
        value = json.loads(text, object_pairs_hook=as_mapping)
    except json.JSONDecodeError as error:
        problems.fail(f"column {error.colno}: is no JSON: {error.msg}", line=error.lineno)
    except RecursionError:
        problems.fail("is nested too deeply for a DAG file")
    except ValueError:
        problems.fail("holds an integer of more than 4,300 digits")
    if repeated:
        for path, line, first in json_places(text).repeated:
            also = "on the same line" if line == first else f"on line {first}"
            problems.add(f"is given twice ({also}); keep one", line=line, label=field_label(path))
    return Document(value, cache(lambda: json_places(text)))


@dataclass(slots=True)
class JsonPlaces(Places):
    """Places, and the keys that are given twice: path, line, line of the first."""

    repeated: list[tuple[Path, int, int]] = field(default_factory=list)


def json_places(text: str) -> JsonPlaces:
    """Return the places of a text that is known to be valid JSON.

    Slower than reading, so it is called only to tell about a problem.  Without recursion: the
    text may be nested as deeply as the reader bears.
    """
    places = JsonPlaces()
    path: list[str | int] = []
    keys: list[dict[str, int] | None] = []  # of each mapping around; None for a list
    key_is_next = False
    line, counted = 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", counted, match.start())
        counted = match.start()
        symbol = match.group()
        if symbol == ",":
            key_is_next = keys[-1] is not None
            if not key_is_next:
                path[-1] = int(path[-1]) + 1
        elif symbol in ("}", "]"):
            keys.pop()
            path.pop()
            key_is_next = False
        elif key_is_next:
            key_is_next = False
            _note_key(places, path, keys[-1], json.loads(symbol), line)
        elif symbol != ":":
            places.lines.setdefault(tuple(path), line)
            if symbol in ("{", "["):
                key_is_next = symbol == "{"
                keys.append({} if key_is_next else None)
                path.append("" if key_is_next else 0)
            elif symbol[0] != '"':
                places.spellings[tuple(path)] = symbol
    return places


def _note_key(
    places: JsonPlaces, path: list[str | int], keys: dict[str, int] | None, key: str, line: int
) -> None:
    path[-1] = key
    if keys is None:
        raise AssertionError("a key in a list: the text is no valid JSON")
    if key in keys:
        places.repeated.append((tuple(path), line, keys[key]))
    else:
        keys[key] = places.lines[tuple(path)] = line

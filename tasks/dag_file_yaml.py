"""YAML as a document whose values have lines, read so that nothing in it surprises.

Built from the parser's events instead of with a loader: no tag can make an object, aliases are
shared and bounded, the depth is bounded, keys that are given twice are found, and what YAML 1.1
reads in an unexpected way (``010`` is 8, ``1:30`` is 90) is refused instead of guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import yaml

from tasks.dag_file_places import Document, Places
from tasks.dag_file_problems import Path, Problems, field_label
from tasks.shown import quoted

MAX_DEPTH = 40
MAX_ALIASED = 1_000_000
"""How many values aliases may stand for in all."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVERS = yaml.SafeLoader.yaml_implicit_resolvers
_PREFIX = "tag:yaml.org,2002:"
_SURPRISING_INTEGER = re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_DOTTED = re.compile(r"\.(inf|nan)")
_TRUE = frozenset({"true", "yes", "on"})


def read_yaml_document(text: str, problems: Problems) -> Document:
    """Return the document; raises ``InputError`` where the text is no YAML.

    A file without content reads as ``None``.
    """
    value = _Builder(text, problems).document()
    return Document(value, cache(lambda: _places(text)))


def _places(text: str) -> Places:
    places = Places()
    _Builder(text, Problems(""), places).document()
    return places


class _Builder:
    """Makes values from events; with ``places`` it notes where each stands."""

    def __init__(self, text: str, problems: Problems, places: Places | None = None) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._problems = problems
        self._places = places
        self._anchors: dict[str, tuple[object, int, Path]] = {}
        self._count = 0
        self._aliased = 0

    def document(self) -> object:
        """Return the value of the only document."""
        self._next()  # the stream begins
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        value = self._value(self._next(), ())
        self._next()  # the document ends
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            self._problems.fail(
                "a second document begins; give each graph a file of its own", line=_line(after)
            )
        return value

    def _next(self) -> yaml.Event:
        try:
            return next(self._events)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            column = f"column {mark.column + 1}: " if mark else ""
            said = error.problem or error.context or "it cannot be parsed"
            self._problems.fail(f"{column}is no YAML: {said}", line=mark.line + 1 if mark else None)
        except yaml.YAMLError as error:
            reason = getattr(error, "reason", None) or "it cannot be parsed"
            self._problems.fail(f"is no YAML: {reason}")

    def _value(self, event: yaml.Event, path: Path) -> object:
        if len(path) > MAX_DEPTH:
            self._problems.fail("is nested too deeply for a DAG file", line=_line(event))
        if self._places is not None:
            self._places.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        before = self._count
        self._count += 1
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._refuse_tag(event, "seq", path)
            value = self._sequence(path)
        else:
            self._refuse_tag(event, "map", path)
            value = self._mapping(path)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = (value, self._count - before, path)
        return value

    def _alias(self, event: yaml.AliasEvent, path: Path) -> object:
        anchor = str(event.anchor)
        known = self._anchors.get(anchor)
        if known is None:
            text = f'the alias "*{anchor}" has no "&{anchor}" before it'
            self._problems.fail(text, line=_line(event))
        value, size, origin = known
        self._alias_count(size, _line(event))
        if self._places is not None:
            self._places.aliases[path] = origin
        return value

    def _alias_count(self, size: int, line: int) -> None:
        self._count += size
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            text = f"aliases stand for more than {MAX_ALIASED:,} values; write them out"
            self._problems.fail(text, line=line)

    def _sequence(self, path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, object]:
        mapping: dict[str, object] = {}
        lines: dict[str, int] = {}
        merges = False
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            (key, is_merge), line = self._key(event, path), _line(event)
            here = (*path, key)
            if key in mapping:
                also = f"also on line {lines[key]}"
                text = f"is given twice ({also}); keep one"
                self._problems.add(text, line=line, label=field_label(here))
            if self._places is not None:
                self._places.lines.setdefault(here, line)
            mapping[key] = self._value(self._next(), here)
            lines[key] = line
            merges = merges or is_merge
        return self._merged(mapping, path, lines["<<"]) if merges else mapping

    def _key(self, event: yaml.Event, path: Path) -> tuple[str, bool]:
        """Return the key, and whether it merges another mapping into this one."""
        # Keys are names here, so `on:` and `1:` are text whatever YAML 1.1 makes of them.
        if not isinstance(event, yaml.ScalarEvent):
            self._problems.fail("a key must be text", line=_line(event), label=field_label(path))
        return event.value, event.value == "<<" and event.implicit[0]

    def _merged(self, mapping: dict[str, object], path: Path, line: int) -> dict[str, object]:
        """Return the mapping with what its ``<<`` brings; the mapping's own keys win."""
        given = mapping.pop("<<")
        for position, source in enumerate(given if isinstance(given, list) else [given]):
            if not isinstance(source, dict):
                self._problems.add('"<<" takes a mapping or a list of mappings', line=line)
                continue
            self._alias_count(len(source), line)
            step = (position,) if isinstance(given, list) else ()
            for key in source.keys() - mapping.keys():
                if self._places is not None:
                    self._places.lines[*path, key] = line
                    self._places.aliases[*path, key] = (*path, "<<", *step, key)
            mapping = {**source, **mapping}
        return mapping

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> object:
        text = event.value
        if event.tag in (_PREFIX + "str", "!") or (not event.implicit[0] and event.tag is None):
            return text
        if event.tag is not None:
            self._refuse_tag(event, "str", path)
            return text
        kind = _kind(text)
        if kind == "null":
            return None
        if kind not in ("int", "float", "bool"):
            return text
        if self._places is not None:
            self._places.spellings[path] = text
        if kind == "bool":
            return text.lower() in _TRUE
        return self._number(text, kind, _line(event), path)

    def _number(self, text: str, kind: str, line: int, path: Path) -> object:
        if _SURPRISING_INTEGER.fullmatch(text):
            self._problems.add(
                f"YAML reads {text} as another number (base 8 or 60); "
                f'quote it: "{text}", or write the number itself',
                line=line,
                label=field_label(path),
            )
            return 0
        plain = text.replace("_", "").lower()
        try:
            return int(plain, 0) if kind == "int" else float(_DOTTED.sub(r"\1", plain))
        except ValueError:  # more than 4,300 digits
            self._problems.add("the number is too long", line=line, label=field_label(path))
            return 0

    def _refuse_tag(self, event: yaml.Event, allowed: str, path: Path) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in ("!", _PREFIX + allowed):
            name = tag.replace(_PREFIX, "!!")
            self._problems.add(
                f"the tag {quoted(name)} is not allowed; give a plain value",
                line=_line(event),
                label=field_label(path),
            )


def _kind(text: str) -> str:
    """Return what YAML 1.1 takes the unquoted text for."""
    for tag, pattern in [*_RESOLVERS.get(text[:1], []), *_RESOLVERS.get(None, [])]:
        if pattern.match(text):
            return str(tag).removeprefix(_PREFIX)
    return "str"


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    if mark is None:
        raise AssertionError("an event of a text has a place in it; this is a bug")
    return int(mark.line) + 1

"""TOML as a document whose values have lines."""

from __future__ import annotations

import re
import tomllib
from functools import cache

from tasks.dag_file_places import Document, Places
from tasks.dag_file_problems import Path, Problems

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def read_toml_document(text: str, problems: Problems) -> Document:
    """Return the document; raises ``InputError`` where the text is no TOML."""
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said, at = str(error), _AT.search(str(error))
        if at is not None:
            said = said[: at.start()]
        if at is None or at[1] is None:
            problems.fail(f"is no TOML: {said}", line=text.count("\n") + 1)
        problems.fail(f"column {at[2]}: is no TOML: {said}", line=int(at[1]))
    except RecursionError:
        problems.fail("is nested too deeply for a DAG file")
    except ValueError as error:
        said = "an integer has more than 4,300 digits" if "digits" in str(error) else str(error)
        problems.fail(f"is no TOML: {said}")
    return Document(value, cache(lambda: _toml_places(text)))


def _toml_places(text: str) -> Places:
    walk = _Walk(text)
    try:
        walk.document()
    except RecursionError:
        pass  # the outer values have their lines; the innermost of a tower need none
    return walk.places


_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[^,\]}#\n]+")


class _Walk:
    """Goes through a text that is known to be valid TOML and notes where values stand."""

    def __init__(self, text: str) -> None:
        self.places = Places()
        self._text = text
        self._at = 0
        self._line, self._counted = 1, 0
        self._tables: dict[Path, int] = {}
        """How many tables each array of tables has so far."""

    def document(self) -> None:
        table: Path = ()
        self.places.lines[table] = 1
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._sees("["):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> Path:
        line = self._line_now()
        is_array = self._sees("[[")
        self._at += 2 if is_array else 1
        keys = self._keys()
        self._at += 2 if is_array else 1
        path: Path = ()
        for key in keys[:-1]:
            path = self._newest((*path, key))
        path = (*path, keys[-1])
        if is_array:
            self._tables[path] = self._tables.get(path, 0) + 1
            self.places.lines.setdefault(path, line)
            path = self._newest(path)
        self.places.lines.setdefault(path, line)
        return path

    def _newest(self, path: Path) -> Path:
        return (*path, self._tables[path] - 1) if path in self._tables else path

    def _pair(self, table: Path) -> None:
        line = self._line_now()
        path = (*table, *self._keys())
        self._at += 1  # the equals sign
        self.places.lines.setdefault(path, line)
        self._skip(_SPACE)
        self._value(path)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            if self._sees('"'):
                keys.append(_unquoted(self._take(_BASIC)))
            elif self._sees("'"):
                keys.append(self._take(_LITERAL)[1:-1])
            else:
                keys.append(self._take(_BARE_KEY))
            self._skip(_SPACE)
            if not self._sees("."):
                return keys
            self._at += 1

    def _value(self, path: Path) -> None:
        self.places.lines.setdefault(path, self._line_now())
        if self._sees("["):
            self._array(path)
        elif self._sees("{"):
            self._inline_table(path)
        elif self._sees('"""'):
            self._take(_LONG_BASIC)
        elif self._sees("'''"):
            self._take(_LONG_LITERAL)
        elif self._sees('"'):
            self._take(_BASIC)
        elif self._sees("'"):
            self._take(_LITERAL)
        else:
            self.places.spellings[path] = self._take(_BARE_VALUE).strip()

    def _array(self, path: Path) -> None:
        self._at += 1
        count = 0
        while not self._closes("]"):
            self._value((*path, count))
            count += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while not self._closes("}"):
            self._pair(path)

    def _closes(self, bracket: str) -> bool:
        """Go behind a comma; return whether the bracket came, and go behind it too."""
        self._skip(_BLANK)
        if self._sees(","):
            self._at += 1
            self._skip(_BLANK)
        if not self._sees(bracket):
            return False
        self._at += 1
        return True

    def _sees(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise AssertionError(f"no TOML at offset {self._at}; this is a bug")
        self._at = match.end()
        return match.group()

    def _line_now(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _unquoted(key: str) -> str:
    return next(iter(tomllib.loads(f"{key} = 0")))

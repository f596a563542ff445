"""``matrix``: one job for each combination of values, which are put in where ``{key}`` stands."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tasks.dag_file_problems import Path
from tasks.job_mapping import JobMapping
from tasks.job_problems import Spelling, nothing
from tasks.nearest import did_you_mean
from tasks.shell_quoting import takes_quoted_word
from tasks.shown import quoted, shown

MAX_COMBINATIONS = 1_000_000

Report = Callable[[Path, str], None]

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
_LISTS = ("needs", "inputs", "outputs")
_ALLOWED = "a mapping of keys to lists of values"


class _WrongMatrixError(Exception):
    """Something was reported; there are no jobs to make."""


def expand_matrix(job: JobMapping, report: Report, spelling: Spelling) -> Iterator[JobMapping]:
    """Yield one job for each combination of the values in ``job["matrix"]``, the last key fastest.

    ``{key}`` is replaced in ``id``, ``command``, ``needs``, ``inputs``, ``outputs`` and in the
    values of ``env``; doubled braces become single ones.  Numbers are put in as they are written.
    In a command that is text a value is quoted for the shell.  What is wrong goes to ``report``;
    then nothing is yielded.
    """
    try:
        values = _Values(job["matrix"], report, spelling)
        rest = {name: value for name, value in job.items() if name != "matrix"}
        templates = _Templates(rest, values, report)
    except _WrongMatrixError:
        return
    for texts in itertools.product(*values.texts.values()):
        yield {**rest, **templates.filled_with(dict(zip(values.texts, texts, strict=True)))}


class _Values:
    """The keys of a matrix with the texts of their values."""

    def __init__(self, matrix: object, report: Report, spelling: Spelling) -> None:
        self._report = report
        self._spelling = spelling
        self._is_right = True
        self.texts: dict[str, Sequence[str]] = {}
        if not isinstance(matrix, Mapping) or not matrix:
            found = "is empty" if isinstance(matrix, Mapping) else f"{shown(matrix)} is no mapping"
            self._wrong((), f"{found}; give {_ALLOWED}")
        else:
            for key, values in matrix.items():
                self._add(key, values)
            self._check_size()
        if not self._is_right:
            raise _WrongMatrixError

    def _add(self, key: object, values: object) -> None:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            self._wrong((), f"{shown(key)} is no key; use letters, digits, _ and -")
        elif not isinstance(values, list | tuple):
            self._wrong((key,), f"{shown(values)} is no list; give a list of values")
        elif not values:
            self._wrong((key,), "is empty; give at least one value")
        else:
            self.texts[key] = list(self._texts(key, values))

    def _texts(self, key: str, values: Sequence[object]) -> Iterator[str]:
        seen: set[str] = set()
        for position, value in enumerate(values):
            text = self._text((key, position), value)
            if text in seen:
                self._wrong((key, position), f"{shown(value)} is given twice; keep one")
            seen.add(text)
            yield text

    def _text(self, path: Path, value: object) -> str:
        spelling = self._spelling(("matrix", *path))
        if isinstance(value, bool):
            text = "true" if value else "false"
            if spelling is not None and spelling.lower() != text:
                self._wrong(path, f'{spelling} is a boolean here; quote it: "{spelling}"')
            return text
        if isinstance(value, int | float):
            return spelling if spelling is not None else shown(value)
        if isinstance(value, str):
            return value
        found = nothing("a value") if value is None else f"{shown(value)} cannot be put into text"
        self._wrong(path, f"{found}; give text, a number or a boolean")
        return ""

    def _check_size(self) -> None:
        count = math.prod(len(texts) for texts in self.texts.values())
        if count > MAX_COMBINATIONS:
            self._wrong((), f"makes {count:,} jobs; at most {MAX_COMBINATIONS:,} are allowed")

    def _wrong(self, path: Path, text: str) -> None:
        self._is_right = False
        self._report(("matrix", *path), text)


class _Template:
    """A text with gaps: ``literals[0]``, the value of ``keys[0]``, ``literals[1]``, ..."""

    def __init__(self, literals: Sequence[str], keys: Sequence[str]) -> None:
        self.literals = literals
        self.keys = keys
        self._pairs = list(zip(keys, literals[1:], strict=True))

    def filled_with(self, texts: Mapping[str, str]) -> str:
        """Return the text with the values in its gaps."""
        parts = [self.literals[0]]
        for key, literal in self._pairs:
            parts += (texts[key], literal)
        return "".join(parts)


class _ShellTemplate(_Template):
    """A command for the shell: values are quoted where the shell takes a quoted word."""

    def __init__(self, template: _Template) -> None:
        super().__init__(template.literals, template.keys)
        self.quotes = takes_quoted_word(template.literals)

    def filled_with(self, texts: Mapping[str, str]) -> str:
        """Return the command with the values in its gaps."""
        parts = [self.literals[0]]
        for (key, literal), quotes in zip(self._pairs, self.quotes, strict=True):
            parts += (shlex.quote(texts[key]) if quotes else texts[key], literal)
        return "".join(parts)


class _Templates:
    """The fields of a job in which ``{key}`` is replaced."""

    def __init__(self, job: JobMapping, values: _Values, report: Report) -> None:
        self._values = values
        self._report = report
        self._is_right = True
        self._texts: dict[str, _Template] = {}
        self._lists: dict[str, list[_Template | object]] = {}
        self._env: dict[Any, _Template | object] | None = None
        for name in ("id", "command", *_LISTS, "env"):
            self._read(name, job.get(name))
        if not self._is_right:
            raise _WrongMatrixError

    def filled_with(self, texts: Mapping[str, str]) -> JobMapping:
        """Return the fields for one combination."""
        fields: JobMapping = {
            name: template.filled_with(texts) for name, template in self._texts.items()
        }
        for name, items in self._lists.items():
            fields[name] = [_filled(item, texts) for item in items]
        if self._env is not None:
            fields["env"] = {name: _filled(item, texts) for name, item in self._env.items()}
        return fields

    def _read(self, name: str, value: object) -> None:
        # What has the wrong type stays as it is: the validation of the job tells about it.
        if isinstance(value, str) and name == "command":
            self._texts[name] = self._shell_template(value)
        elif isinstance(value, str) and name == "id":
            self._texts[name] = self._id_template(value)
        elif isinstance(value, list | tuple) and name not in ("id", "env"):
            self._lists[name] = [
                self._item((name, position), item) for position, item in enumerate(value)
            ]
        elif isinstance(value, Mapping) and name == "env":
            self._env = {key: self._item((name, key), item) for key, item in value.items()}

    def _item(self, path: Path, value: object) -> _Template | object:
        return self._template(path, value) if isinstance(value, str) else value

    def _template(self, path: Path, text: str) -> _Template:
        literals, keys = [""], []
        end = 0
        for match in _BRACES.finditer(text):
            literals[-1] += text[end : match.start()]
            end = match.end()
            if match.group() in ("{{", "}}"):
                literals[-1] += match.group()[0]
            elif match[1] in self._values.texts:
                keys.append(match[1])
                literals.append("")
            else:
                self._wrong(path, self._brace_problem(match.group(), match[1]))
        literals[-1] += text[end:]
        return _Template(literals, keys)

    def _brace_problem(self, found: str, key: str | None) -> str:
        if key is None:
            return f'a single "{found}" in a job with a matrix; double it to mean the character'
        keys = ", ".join(self._values.texts)
        advice = did_you_mean(
            key,
            self._values.texts,
            f"the keys are {keys}; double the braces to mean the characters",
        )
        return f"{quoted(found)} names no key of the matrix; {advice}"

    def _id_template(self, text: str) -> _Template:
        template = self._template(("id",), text)
        for key, values in self._values.texts.items():
            if len(values) > 1 and key not in template.keys:
                self._wrong(
                    ("id",),
                    f"{quoted(text)} lacks {{{key}}}; each combination needs an id of its own",
                )
        return template

    def _shell_template(self, text: str) -> _Template:
        template = _ShellTemplate(self._template(("command",), text))
        gaps = zip(template.keys, template.literals, template.quotes, strict=False)
        for key, before, quotes in gaps:
            if before.endswith("$"):
                self._wrong(
                    ("command",),
                    f'"${{{key}}}" would be a shell variable named by the value; '
                    f"write {{{key}}} for the value, ${{{{{key}}}}} for the variable",
                )
            elif not quotes:
                self._check_unquoted(key)
        return template

    def _check_unquoted(self, key: str) -> None:
        for value in self._values.texts[key]:
            if value and shlex.quote(value) != value:
                self._wrong(
                    ("command",),
                    f"{{{key}}} stands inside quotes, backquotes, a comment or a here-document, "
                    f"where its value {quoted(value)} cannot be quoted; take the quotes away "
                    "(values are quoted for you), or give the command as a list",
                )
                return

    def _wrong(self, path: Path, text: str) -> None:
        self._is_right = False
        self._report(path, text)


def _filled(item: _Template | object, texts: Mapping[str, str]) -> object:
    return item.filled_with(texts) if isinstance(item, _Template) else item

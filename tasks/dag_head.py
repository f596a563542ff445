"""What a DAG file says about all its jobs: name, resources, parallelism, folder, defaults."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.dag_file_problems import Path
from tasks.job_mapping import valid_defaults
from tasks.job_problems import Spelling, not_text, nothing
from tasks.nearest import did_you_mean
from tasks.shown import shown
from tasks.spec import NAME_PATTERN

HEAD_KEYS = ("name", "resources", "max_parallel", "cwd", "defaults")
NAME_ALLOWED = "1 to 100 of a-z 0-9 . _ - that do not begin with . or -"

_NAME = re.compile(NAME_PATTERN)
_NOT_IN_NAME = re.compile(r"[^a-z0-9._-]+")
_RESOURCE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_RESOURCE_ID = re.compile(r"[A-Za-z0-9._:/@+=-]{1,200}")
_RESOURCE_ALLOWED = "an integer >= 0, or a list of ids"
_LARGEST = 1_000_000_000

Report = Callable[[Path, str], None]
Amount = int | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """The head; ``None`` where the file says nothing."""

    name: str | None = None
    resources: Mapping[str, Amount] | None = None
    max_parallel: int | None = None
    cwd: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)


def read_head(mapping: Mapping[str, Any], report: Report, spelling: Spelling) -> Head:
    """Return the head that the mapping (without its jobs) gives; ``report`` what is wrong."""
    for key in mapping:
        if key not in HEAD_KEYS:
            known = ", ".join(HEAD_KEYS)
            advice = did_you_mean(key, HEAD_KEYS, f"the keys are {known} and jobs")
            report((key,), f"is no key of a DAG file; {advice}")
    reader = _HeadReader(mapping, report, spelling)
    return Head(
        name=reader.name(),
        resources=reader.resources(),
        max_parallel=reader.max_parallel(),
        cwd=reader.cwd(),
        defaults=reader.defaults(),
    )


def is_name(text: str) -> bool:
    """Return whether a run may be called so."""
    return _NAME.fullmatch(text) is not None


def name_from(text: str) -> str:
    """Return the name of a run that comes nearest to a file's stem."""
    name = _NOT_IN_NAME.sub("-", text.lower()).lstrip(".-").rstrip("-")[:100]
    return name if is_name(name) else "dag"


class _HeadReader:
    def __init__(self, mapping: Mapping[str, Any], report: Report, spelling: Spelling) -> None:
        self._mapping = mapping
        self._report = report
        self._spelling = spelling

    def name(self) -> str | None:
        text = self._text("name", NAME_ALLOWED)
        if text is not None and not is_name(text):
            self._report(("name",), f"{shown(text)} is not allowed; give {NAME_ALLOWED}")
            return None
        return text

    def cwd(self) -> str | None:
        text = self._text("cwd", "a folder")
        if text is not None and "\0" in text:
            self._report(("cwd",), f"{shown(text)} contains a NUL character; give a folder")
            return None
        return text

    def max_parallel(self) -> int | None:
        value = self._given("max_parallel", "an integer >= 1")
        if value is None:
            return None
        if isinstance(value, int) and _is_integer(value) and 1 <= value <= _LARGEST:
            return value
        self._report(("max_parallel",), f"{_integer_problem(value)}; give an integer >= 1")
        return None

    def defaults(self) -> Mapping[str, Any]:
        value = self._given("defaults", "a mapping of fields of a job")
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            text = f"{shown(value)} is no mapping; give a mapping of fields of a job"
            self._report(("defaults",), text)
            return {}
        return valid_defaults(
            value,
            lambda path, text: self._report(("defaults", *path), text),
            lambda path: self._spelling(("defaults", *path)),
        )

    def resources(self) -> Mapping[str, Amount] | None:
        value = self._given("resources", "a mapping of names to counts or ids")
        if value is None:
            return None
        if not isinstance(value, Mapping):
            text = f"{shown(value)} is no mapping; give a mapping of names to counts or ids"
            self._report(("resources",), text)
            return None
        resources: dict[str, Amount] = {}
        variables: dict[str, str] = {}
        for name, amount in value.items():
            if not isinstance(name, str) or not _RESOURCE_NAME.fullmatch(name):
                text = f"{shown(name)} is no name of a resource; give letters, digits and _"
                self._report(("resources", name) if isinstance(name, str) else ("resources",), text)
            elif name.upper() in variables:
                text = f'differs from "{variables[name.upper()]}" in case alone; rename one'
                self._report(("resources", name), text)
            else:
                variables[name.upper()] = name
                resources[name] = self._amount(name, amount)
        return resources

    def _amount(self, name: str, amount: object) -> Amount:
        path: Path = ("resources", name)
        if isinstance(amount, int) and _is_integer(amount):
            if 0 <= amount <= _LARGEST:
                return amount
        elif isinstance(amount, list | tuple):
            return tuple(self._ids(path, amount))
        elif amount is None:
            self._report(path, nothing(_RESOURCE_ALLOWED))
            return 0
        self._report(path, f"{_integer_problem(amount)}; give {_RESOURCE_ALLOWED}")
        return 0

    def _ids(self, path: Path, ids: list[object] | tuple[object, ...]) -> list[str]:
        texts: dict[str, None] = {}
        for position, value in enumerate(ids):
            text = str(value) if _is_integer(value) and _is_small(value) else value
            here = (*path, position)
            if not isinstance(text, str):
                self._report(here, not_text(value, self._spelling(here), "an id"))
            elif not _RESOURCE_ID.fullmatch(text):
                allowed = "1 to 200 of A-Z a-z 0-9 . _ : / @ + = -"
                self._report(here, f"{shown(text)} is no id; give {allowed}")
            elif text in texts:
                self._report(here, f"{shown(text)} is given twice; ids must differ")
            else:
                texts[text] = None
        return list(texts)

    def _text(self, key: str, allowed: str) -> str | None:
        value = self._given(key, allowed)
        if value is None or isinstance(value, str):
            return value
        self._report((key,), not_text(value, self._spelling((key,)), allowed))
        return None

    def _given(self, key: str, allowed: str) -> Any:
        value = self._mapping.get(key)
        if value is None and key in self._mapping:
            self._report((key,), nothing(allowed))
        return value


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_small(value: object) -> bool:
    return isinstance(value, int) and abs(value) <= _LARGEST


def _integer_problem(value: object) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        return f"{shown(value)} is no integer"
    return f"{shown(value)} is too {'large' if value > 0 else 'small'}"

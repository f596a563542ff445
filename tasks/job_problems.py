"""What is wrong with a job, in the words of the format: what was found, what is allowed."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from tasks.dag_file_problems import Path
from tasks.nearest import did_you_mean
from tasks.shown import shown
from tasks.spec import JobSpec

Spelling = Callable[[Path], str | None]
"""Returns how a number or boolean is written in the file, where that is known."""

_LIST_OF_GLOBS = "a list of globs, relative to the job's folder"
_LIST_OF_PATTERNS = "a list of regular expressions"

ALLOWED: Mapping[str, str] = {
    "id": "1 to 200 of A-Z a-z 0-9 . _ : = + , @ - that do not begin with . or -",
    "command": "text for /bin/sh -c, or a list of words that is executed as it is",
    "needs": "a list of job ids or globs",
    "needs_policy": '"all" or "any"',
    "group": "the text of a progress row",
    "backend": "the name of a backend",
    "resources": "a mapping of resource names to whole numbers >= 0",
    "weight": "a number",
    "timeout_s": "a number of seconds > 0",
    "grace_s": "a number of seconds >= 0",
    "retries": "an integer >= 0",
    "retry_delay_s": "a number of seconds >= 0",
    "retry_exit_codes": "a list of integers from 1 to 255",
    "env": "a mapping of names to texts",
    "cwd": "a folder",
    "inputs": _LIST_OF_GLOBS,
    "outputs": _LIST_OF_GLOBS,
    "pass_patterns": _LIST_OF_PATTERNS,
    "fail_patterns": _LIST_OF_PATTERNS,
    "leftovers": '"kill" or "allow"',
    "keep_previous": "an integer >= 0",
    "interactive": "true or false",
    "tags": "a list of texts",
}
"""What may stand in each field of a job."""

_ALLOWED_INSIDE: Mapping[str, str] = {
    "command": "text",
    "needs": "a job id or a glob",
    "resources": "an integer >= 0",
    "retry_exit_codes": "an integer from 1 to 255",
    "env": "text",
    "inputs": "a glob",
    "outputs": "a glob",
    "pass_patterns": "a regular expression",
    "fail_patterns": "a regular expression",
    "tags": "text",
}

_REASONS: Mapping[str, str] = {
    "bool_type": "is neither true nor false",
    "dict_type": "is no mapping",
    "finite_number": "is not finite",
    "float_type": "is no number",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "int_from_float": "is no integer",
    "int_parsing_size": "is too large",
    "int_type": "is no integer",
    "less_than_equal": "is too large",
    "literal_error": "is not known",
    "mapping_type": "is no mapping",
    "string_pattern_mismatch": "is not allowed",
    "string_too_long": "is longer than 1,000,000 characters",
    "string_type": "is no text",
    "string_unicode": "is no valid Unicode text",
    "too_short": "is empty",
    "tuple_type": "is no list",
}

OTHER_NAMES: Mapping[str, str] = {
    "args": "command",
    "cmd": "command",
    "dependencies": "needs",
    "depends": "needs",
    "depends_on": "needs",
    "deps": "needs",
    "environment": "env",
    "max_retries": "retries",
    "name": "id",
    "run": "command",
    "script": "command",
    "timeout": "timeout_s",
    "working_directory": "cwd",
}
"""What other tools call the fields."""


def no_spelling(_path: Path) -> str | None:
    """Know no spelling, as for what Python code made."""
    return None


def job_problems(error: ValidationError, spelling: Spelling) -> Iterator[tuple[Path, str]]:
    """Yield the path inside the job and the text of each problem."""
    for found in error.errors(include_url=False):
        path = _path(found["loc"])
        if not _is_said_elsewhere(found):
            yield path, _text(found, path, spelling)


def unknown_field(name: str) -> str:
    """Return what to say about a key that is no field of a job."""
    fields = ("id", "command", "matrix", *ALLOWED)
    known = ", ".join(dict.fromkeys(fields))
    other = OTHER_NAMES.get(name)
    advice = (
        did_you_mean(name, fields, f"the fields are {known}")
        if other is None
        else f'did you mean "{other}"?'
    )
    return f"is no field of a job; {advice}"


def not_text(value: object, spelling: str | None, allowed: str) -> str:
    """Return what to say about a value that is not text where text must be.

    A number or a boolean has to be quoted: whether ``1.10`` or ``on`` is meant as it is written,
    a reader cannot know.
    """
    written = shown(value) if spelling is None else spelling
    if isinstance(value, bool):
        return f'{written} is a boolean here; quote it: "{written}"'
    if isinstance(value, int | float):
        return f'{written} is a number here; quote it: "{written}"'
    if isinstance(value, datetime.date | datetime.time):
        text = value.isoformat() if spelling is None else spelling
        return f'{text} is a date or a time here; quote it: "{text}"'
    return nothing(allowed) if value is None else f"{written} is no text; give {allowed}"


def nothing(allowed: str) -> str:
    """Return what to say about a field that stands there without a value."""
    return f"nothing is given; give {allowed}, or leave the field out"


def _path(loc: tuple[int | str, ...]) -> Path:
    if loc[0] == "command":
        return (loc[0], *loc[2:])  # without the branch of "text or list"
    return tuple(step for step in loc if step != "[key]") if "[key]" in loc[2:] else loc


def _is_said_elsewhere(found: Mapping[str, Any]) -> bool:
    """Whether another problem of a command, which may be text or a list, says the same.

    A list is told about as a list, everything else as text.
    """
    loc = found["loc"]
    if loc[0] != "command" or len(loc) < 2:
        return False
    if found["type"] == "tuple_type" and len(loc) == 2:
        return True
    if found["type"] == "too_short" and found["input"]:
        return True  # its words are wrong, each of which is told about
    is_text_branch = not str(loc[1]).startswith("tuple")
    return is_text_branch and isinstance(found["input"], list | tuple)


def _text(found: Mapping[str, Any], path: Path, spelling: Spelling) -> str:
    kind, value, field = found["type"], found["input"], str(path[0])
    if kind == "extra_forbidden":
        return unknown_field(field)
    inside = len(path) > 1
    allowed = (_ALLOWED_INSIDE if inside else ALLOWED)[field]
    if kind == "missing":
        return f"is missing; give {allowed}"
    if kind == "value_error":
        return f"{found['ctx']['error']}; give {allowed}"
    if value is None:
        return nothing(allowed)
    if kind == "string_type":
        return not_text(value, spelling(path), allowed)
    reason = _REASONS.get(kind, "is not allowed")
    return f"{shown(value)} {reason}; give {allowed}"


_missing = JobSpec.model_fields.keys() - ALLOWED.keys()
if _missing:  # a field added to the specification needs its line above
    raise AssertionError(f"no words for the fields {sorted(_missing)}")

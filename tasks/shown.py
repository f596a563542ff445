"""A value as a message shows it: short, on one line, harmless on a terminal."""

from __future__ import annotations

import datetime

_LIMIT = 60


def shown(value: object) -> str:
    """Return the value as a person wrote it: text in double quotes, at most 60 characters.

    Nothing is walked through and nothing printed raw: values come from hostile files.
    """
    match value:
        case str():
            return quoted(value)
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 10**_LIMIT else "a huge integer"
        case float():
            return repr(float(value))
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case datetime.date() | datetime.time():
            return f"the date or time {value.isoformat()}"
        case _:
            return f"a value of type {type(value).__name__}"


def quoted(text: str) -> str:
    """Return the text in double quotes, shortened, what is not printable as escapes."""
    return f'"{printable(text[:_LIMIT])}{"…" if len(text) > _LIMIT else ""}"'


def printable(text: str) -> str:
    """Return the text with escapes for what a terminal would obey or could not write."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )

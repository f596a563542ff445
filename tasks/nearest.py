"""The name that somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_COMPARED = 5_000
"""Comparing is slow: of more names than this only those that begin alike are looked at."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` that is most like ``name``; ``None`` when none is like it."""
    candidates = [other for other in names if abs(len(other) - len(name)) <= 3]
    if len(candidates) > _COMPARED:
        candidates = [other for other in candidates if other[:3] == name[:3]][:_COMPARED]
    matches = difflib.get_close_matches(name[:200], candidates, 1)
    return matches[0] if matches else None


def did_you_mean(name: str, names: Iterable[str], otherwise: str) -> str:
    """Return the question that names the nearest, or ``otherwise`` where none is near."""
    match = nearest(name, names)
    return otherwise if match is None else f'did you mean "{match}"?'

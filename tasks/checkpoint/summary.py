"""What a store holds, for people and programs that ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.checkpoint.generations import Mark


@dataclass(frozen=True, slots=True)
class StoreFileSummary:
    """One file of a store."""

    name: str
    state: str
    entries: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """A whole store, as ``checkpoint show`` tells it."""

    directory: Path
    generations: tuple[Mark, ...]
    counts: Mapping[str, int]
    """How many sources are ``done``, ``failed``, ``withdrawn``."""
    files: tuple[StoreFileSummary, ...]
    set_aside: tuple[str, ...]
    """Damaged files, by the names under which they were kept."""
    messages: tuple[str, ...]

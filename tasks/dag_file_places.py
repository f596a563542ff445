"""Where the values of a document stand in its text, and how they are written there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tasks.dag_file_problems import Path


@dataclass(slots=True)
class Places:
    """Lines, counted from 1, and spellings of a document's values by their path.

    Empty for what has no text, such as a graph that Python code made.
    """

    lines: dict[Path, int] = field(default_factory=dict)
    spellings: dict[Path, str] = field(default_factory=dict)
    """How numbers, booleans and dates were written: ``1.10``, ``on``."""
    aliases: dict[Path, Path] = field(default_factory=dict)
    """Where the value of a path really stands, for aliases and merged mappings."""

    def line(self, path: Path) -> int | None:
        """Return the line of the value, or of the innermost that is around it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None

    def spelling(self, path: Path) -> str | None:
        """Return how the scalar is written; ``None`` for text and where it is not known."""
        for end in range(len(path), 0, -1):
            origin = self.aliases.get(path[:end])
            if origin is not None:  # always an earlier place of the text: this ends
                return self.spelling(origin + path[end:])
        return self.spellings.get(path)


@dataclass(frozen=True, slots=True)
class Document:
    """A document's value, and its places, which are looked for only when somebody asks."""

    value: object
    places: Callable[[], Places] = Places

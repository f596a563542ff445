"""Everything that is wrong with a DAG file, collected so that it is said at once."""

from __future__ import annotations

from typing import NoReturn

from tasks.errors import InputError
from tasks.shown import printable, quoted

Path = tuple[str | int, ...]
"""Where a value stands in a document: keys and positions, from the outside in."""

SHOWN = 20
"""How many problems a message lists."""

COLLECTED = 1_000
"""How many problems are enough to stop reading."""


def field_label(path: Path) -> str:
    """Return the path as messages name it: ``jobs[3].env.HOME``; positions count from 0."""
    label = ""
    for step in path:
        if isinstance(step, int):
            label += f"[{step}]"
        else:
            plain = step if step and step.replace("-", "_").isidentifier() else quoted(step)
            label += f".{plain}" if label else plain
    return label


class Problems:
    """Collects problems of one source, each once, in the order of their lines."""

    def __init__(self, source: str) -> None:
        self.source = printable(source)
        self._found: dict[tuple[int, str], None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, text: str, *, line: int | None = None, label: str = "") -> None:
        """Note one problem; raises ``InputError`` with all of them when they are too many."""
        place = self.source if line is None else f"{self.source}:{line}"
        message = f"{place}: {label}: {text}" if label else f"{place}: {text}"
        self._found[0 if line is None else line, message] = None
        if len(self._found) >= COLLECTED:
            raise self._error("reading stopped there")

    def fail(self, text: str, *, line: int | None = None, label: str = "") -> NoReturn:
        """Note a problem after which reading cannot go on, and raise all of them."""
        self.add(text, line=line, label=label)
        raise self._error()

    def raise_if_any(self) -> None:
        """Raise ``InputError`` where there is a problem."""
        if self._found:
            raise self._error()

    def _error(self, remark: str = "") -> InputError:
        # Stable: what has no line or the same line keeps the order in which it was found.
        messages = [message for _, message in sorted(self._found, key=lambda found: found[0])]
        hidden = len(messages) - SHOWN
        if hidden > 0:
            more = f"and {hidden} more problems" if hidden > 1 else "and 1 more problem"
            messages[SHOWN:] = [f"{more}; {remark}" if remark else more]
        return InputError(messages)

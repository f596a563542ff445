"""Where in a shell command a quoted word may be put without being taken apart."""

from __future__ import annotations

from collections.abc import Sequence

_BEFORE_COMMENT = frozenset(" \t\n;&|()")


def takes_quoted_word(literals: Sequence[str]) -> list[bool]:
    """Tell for each gap between the literal texts of a command whether quoting works there.

    It works in plain places.  It does not inside quotes (the quotes of the word would end them),
    behind a backslash or a dollar sign, in a comment; and, to be safe, nowhere in a command with
    a here-document or backquotes, whose rules depend on more than what stands before the gap.
    """
    if any("`" in text or "<<" in text for text in literals):
        return [False] * (len(literals) - 1)
    state = _State()
    answers = []
    for text in literals[:-1]:
        state.read(text)
        answers.append(state.is_plain)
        state.gap()
    return answers


class _State:
    """What the shell is in the middle of."""

    def __init__(self) -> None:
        self._quote = ""  # the character that ends it: ' or ", "\n" for a comment
        self._escaped = False
        self._before = "\n"

    @property
    def is_plain(self) -> bool:
        return not self._quote and not self._escaped and self._before != "$"

    def gap(self) -> None:
        """Go over a value."""
        self._escaped = False
        self._before = "x"

    def read(self, text: str) -> None:
        for char in text:
            self._step(char)
            self._before = char

    def _step(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._quote:
            if char == self._quote:
                self._quote = ""
            elif char == "\\":
                self._escaped = self._quote == '"'
        elif char == "\\":
            self._escaped = True
        elif char in "'\"":
            self._quote = char
        elif char == "#" and self._before in _BEFORE_COMMENT:
            self._quote = "\n"

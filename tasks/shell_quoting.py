"""Where in a shell command a quoted word may be put without being taken apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

_BEFORE_COMMENT = frozenset(" \t\n;&|()")

_HARD = re.compile(
    r"`"  # backquotes: a second level of escapes
    r"|<<"  # here-documents: no quotes at all
    r"|\(\(|\$\["  # arithmetic: read as if in double quotes, so substitutions are made
    r"|\$'"  # escapes in single quotes, in some shells
    r"|\$\{(?![A-Za-z_][A-Za-z0-9_]*\})"  # words inside an expansion, with rules of their own
)


def takes_quoted_word(literals: Sequence[str]) -> list[bool]:
    """Tell for each gap between the literal texts of a command whether quoting works there.

    It works in plain places.  It does not inside quotes (the quotes of the word would end them),
    behind a backslash or a dollar sign, in a comment; and, to be safe, nowhere in a command with
    one of the constructs whose rules depend on more than what stands before the gap.
    """
    if _HARD.search("\0".join(literals)):
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
        self._is_lost = False
        self._before = "\n"

    @property
    def is_plain(self) -> bool:
        return not (self._quote or self._escaped or self._is_lost or self._before == "$")

    def gap(self) -> None:
        """Go over a value."""
        self._escaped = False
        self._before = "x"

    def read(self, text: str) -> None:
        for char in text:
            continues_line = self._escaped and char == "\n"
            starts_escape = char == "\\" and self._quote != "'" and not self._escaped
            self._step(char)
            if not continues_line and not starts_escape:
                self._before = char

    def _step(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._quote == '"':
            self._step_in_double_quotes(char)
        elif self._quote:
            if char == self._quote:
                self._quote = ""
        elif char == "\\":
            self._escaped = True
        elif char in "'\"":
            self._quote = char
        elif char == "#" and self._before in _BEFORE_COMMENT:
            self._quote = "\n"

    def _step_in_double_quotes(self, char: str) -> None:
        if char == '"':
            self._quote = ""
        elif char == "\\":
            self._escaped = True
        elif char == "(" and self._before == "$":
            self._is_lost = True  # quotes inside the substitution do not end those around it

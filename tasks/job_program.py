"""Which files of its own a command runs: a program or a script in the graph's folder.

What lies elsewhere (compilers, interpreters, what the system has) belongs to the machine and not to
the job.  What a script reads or imports is no part of its command: that is what ``inputs`` are for.
"""

# ruff: noqa: PTH113, PTH118, PTH119
from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from functools import lru_cache

_INTERPRETER = re.compile(
    r"(python|pypy|perl|ruby|node|lua|tclsh|php)[0-9.]*|Rscript|julia|(ba|da|z|k)?sh|java"
)
_WRAPPERS = frozenset({"env", "nice", "nohup", "time", "stdbuf", "exec", "command", "setsid"})
_PLAIN = re.compile(r"[A-Za-z0-9_./=:,+@% \t-]*")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_SEPARATORS = frozenset(";&|()\n")


def program_files(
    command: str | tuple[str, ...], folder: str, cwd: str, search_path: str | None = None
) -> tuple[str, ...]:
    """Return the files in ``folder`` that the command runs, whether they exist or not.

    ``cwd`` is where the job runs; ``search_path`` its ``PATH`` where it sets one.  All paths are
    plain text: this is asked for every job of a graph.
    """
    found: dict[str, None] = {}
    inside = os.path.join(folder, "")
    for words in _simple_commands(command):
        for name in _files_of(words, cwd, search_path):
            path = os.path.normpath(os.path.join(cwd, name))
            if path.startswith(inside):
                found[path] = None
    return tuple(found)


@lru_cache(maxsize=1024)
def _which(program: str, search_path: str | None) -> str | None:
    return shutil.which(program, path=search_path)


def _simple_commands(command: str | tuple[str, ...]) -> Iterator[Sequence[str]]:
    if not isinstance(command, str):
        yield command
        return
    if _PLAIN.fullmatch(command):
        yield command.split()  # taking a command apart as a shell does is a hundred times slower
        return
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|()\n")
    lexer.whitespace = " \t\r"
    lexer.commenters = "#"
    words: list[str] = []
    try:
        for word in lexer:
            if word and set(word) <= _SEPARATORS:
                yield words
                words = []
            else:
                words.append(word)
    except ValueError:
        pass  # a quote that is never closed: the shell will say so, and what was read counts
    yield words


def _files_of(words: Sequence[str], cwd: str, search_path: str | None) -> Iterator[str]:
    rest = list(words)
    while rest and (_ASSIGNMENT.match(rest[0]) or os.path.basename(rest[0]) in _WRAPPERS):
        wrapper = rest.pop(0)
        while rest and "=" not in wrapper and rest[0].startswith("-"):
            rest.pop(0)
    if not rest:
        return
    program = rest[0]
    if "/" in program:
        yield program
    elif (place := _which(program, search_path)) is not None:
        yield place
    if _INTERPRETER.fullmatch(os.path.basename(program)):
        yield from _script(rest[1:], cwd)


def _script(words: Sequence[str], cwd: str) -> Iterator[str]:
    """Yield the script among an interpreter's words: the first that is a file, or a module."""
    following = iter(words)
    for word in following:
        if word in ("-c", "-e"):
            return
        if word == "-m":
            yield from _module(next(following, ""), cwd)
            return
        if not word.startswith("-") and os.path.isfile(os.path.join(cwd, word)):
            yield word
            return


def _module(name: str, cwd: str) -> Iterator[str]:
    place = name.replace(".", "/")
    for path in (f"{place}.py", f"{place}/__main__.py"):
        if name and os.path.isfile(os.path.join(cwd, path)):
            yield path
            return

"""The files that a job's globs stand for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path


def matched_files(patterns: Iterable[str], cwd: Path) -> dict[str, Path]:
    """Return the files that match, by name, in the order of their names.

    A pattern is relative to ``cwd`` or absolute; a name that happens to look like one matches
    itself; a folder stands for all files in it.  Names are as the patterns have them, so that they
    are the same in another clone.  Links are followed; a dangling one is no file.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        names = [pattern] if os.path.lexists(cwd / pattern) else _globbed(pattern, cwd)
        for name in names:
            path = cwd / name
            if path.is_dir():
                found.update(_files_below(name, path))
            elif path.exists():
                found[name] = path
    return dict(sorted(found.items()))


def _globbed(pattern: str, cwd: Path) -> list[str]:
    # Path.glob refuses absolute patterns and hides less; a job's may be either.
    return glob.glob(pattern, root_dir=cwd, recursive=True, include_hidden=True)  # noqa: PTH207


def _files_below(name: str, folder: Path) -> Iterable[tuple[str, Path]]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        for file in files:
            path = Path(place, file)
            if path.exists():
                yield os.path.join(name, path.relative_to(folder)), path  # noqa: PTH118 - keeps "./"

"""The directory of a job: one clean place for each attempt, earlier logs kept beside it.

Whatever a job put there, nothing outside the run directory is ever touched: links are removed
or renamed as links and never followed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

LOG_NAME = "log.txt"
ENVIRONMENT_NAME = "env.txt"

_LOG_OF_ATTEMPT = re.compile(r"log\.(\d+)\.txt")
_PREVIOUS = re.compile(r"previous\.(\d+)")


def make_job_directory(directory: Path) -> None:
    """Make the directory of a first attempt; one that is there already will do.

    Raises ``OSError``; ``NotADirectoryError`` also for a link, wherever it leads.
    """
    try:
        directory.mkdir()
    except FileExistsError:
        if directory.is_symlink() or not directory.is_dir():
            raise NotADirectoryError(f'"{directory}" is not a directory; remove it') from None


def renew_job_directory(directory: Path, *, keep_previous: int = 0) -> None:
    """Make the directory clean for another attempt.

    The log becomes ``log.<n>.txt`` with the next free number.  What else the earlier attempt
    left is removed, or with ``keep_previous`` moved to ``previous.<n>/``, of which so many of
    the newest are kept.  Raises ``OSError``.
    """
    make_job_directory(directory)
    number = _put_log_away(directory)
    contents = list(_contents(directory))
    if keep_previous and contents:
        _move_to_previous(directory, contents, number)
    else:
        for path in contents:
            _remove(path)
    for _, path in sorted(_numbered(directory, _PREVIOUS))[: -keep_previous or None]:
        _remove(path)


def _put_log_away(directory: Path) -> int:
    """Rename the newest log; return the number it got, or would have got."""
    last = max((number for number, _ in _numbered(directory, _LOG_OF_ATTEMPT)), default=0)
    log = directory / LOG_NAME
    if os.path.lexists(log):
        log.rename(directory / f"log.{last + 1}.txt")
    return last + 1


def _contents(directory: Path) -> Iterator[Path]:
    """Return what an attempt left: neither earlier logs nor earlier contents."""
    for path in directory.iterdir():
        if not (_LOG_OF_ATTEMPT.fullmatch(path.name) or _PREVIOUS.fullmatch(path.name)):
            yield path


def _numbered(directory: Path, pattern: re.Pattern[str]) -> Iterator[tuple[int, Path]]:
    for path in directory.iterdir():
        match = pattern.fullmatch(path.name)
        if match:
            yield int(match[1]), path


def _move_to_previous(directory: Path, contents: list[Path], number: int) -> None:
    last = max((number for number, _ in _numbered(directory, _PREVIOUS)), default=0)
    previous = directory / f"previous.{max(number, last + 1)}"
    previous.mkdir()
    for path in contents:
        path.rename(previous / path.name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # rmtree works on descriptors and does not follow what is swapped under it.
        shutil.rmtree(path)
    else:
        path.unlink()

"""Making files and names durable, and putting what is lost in words."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from tasks.checkpoint.errors import CheckpointError, CheckpointFullError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_ROOM_BYTES = 1 << 20
_MANY = 8
"""From here on one flush of the whole file system is cheaper than one for each file."""


def sync_directory(directory: str | os.PathLike[str]) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_paths(paths: Collection[str]) -> None:
    """Make these files, their contents and their names, durable.  Raises ``OSError``.

    Of a folder among them it is the names in it.
    """
    if not paths:
        return
    flush = _syncfs() if len(paths) > _MANY else None
    if flush is not None:
        _sync_whole(paths, flush)
        return
    folders = set()
    for path in paths:
        folders.add(os.path.dirname(path) or ".")  # noqa: PTH120 - hot: no Path for each
        sync_directory(path)  # fsync asks only for a descriptor, whatever it stands for
    for folder in folders:
        sync_directory(folder)


@cache
def _syncfs() -> Any:
    """``syncfs`` of the C library; ``None`` where there is none (macOS)."""
    try:
        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int]
    return function


def _sync_whole(paths: Collection[str], flush: Any) -> None:
    folders = {path.rpartition("/")[0] or "." for path in paths}
    done = set()
    for folder in folders:
        device = os.stat(folder).st_dev  # noqa: PTH116 - hot
        if device in done:
            continue
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if flush(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), folder)
        finally:
            os.close(descriptor)
        done.add(device)


def reserve(path: Path, size_bytes: int) -> None:
    """Make a file of zeros whose space is really there.

    A page of a memory-mapped file that has no space behind it is a SIGBUS when it is first
    written, where ``write`` would say that the disk is full.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.fstat(descriptor).st_size < size_bytes:
            os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.pwrite(descriptor, b"\0" * size_bytes, 0)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(directory: Path, doing: str) -> Iterator[None]:
    """Turn errors of the disk into the sentence that a person needs."""
    try:
        yield
    except OSError as error:
        raise in_words(directory, doing, error) from error


def in_words(directory: Path, doing: str, error: BaseException) -> CheckpointError:
    """Return the error that tells a person what the disk said and what to do."""
    number = getattr(error, "errno", None) or getattr(error, "code", None)
    if number in _FULL or _has_no_room(directory, number):
        return CheckpointFullError(
            f'the disk of checkpoint "{directory}" is full: {doing} failed ({_said(error)}). '
            "Nothing committed before is lost; what was not will run again. "
            "Make room and start again with the same command"
        )
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return CheckpointError(
            f'checkpoint directory "{directory}" cannot be written: {doing} failed '
            f"({_said(error)}). Make it writable, choose another with --checkpoint DIR, "
            "or run with --resume never"
        )
    return CheckpointError(
        f'checkpoint "{directory}": {doing} failed ({_said(error)}). '
        "Nothing committed before is lost"
    )


def _has_no_room(directory: Path, number: int | None) -> bool:
    """Whether LMDB met a full disk: a write that is cut off is an input/output error to it."""
    if number != errno.EIO:
        return False
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _NO_ROOM_BYTES


def _said(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)


def remove_quietly(*paths: Path) -> None:
    """Remove what is there of these files; what cannot go stays for the next start."""
    for path in paths:
        with suppress(OSError):
            path.unlink()

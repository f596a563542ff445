"""Who writes a store file: one live process, whose claim the kernel drops when it dies.

The claim is a POSIX lock on ``<stem>.owner``.  Unlike ``flock`` it is not inherited by a fork, so a
child that outlives a killed writer does not keep it alive.  The file says in JSON who it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

from tasks.checkpoint.durable import remove_quietly
from tasks.checkpoint.errors import CheckpointBusyError
from tasks.process_identity import ProcessIdentity

_PATIENCE_S = 0.5

_mine: dict[str, int] = {}
"""Claims of this process, by path: closing any descriptor of a claimed file would drop the claim,
so this process never opens one of its own twice."""


def _forget_after_fork() -> None:
    _mine.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


def owner_file(path: Path) -> Path:
    """Return where the owner of a store file is written."""
    return path.with_suffix(".owner")


class Ownership:
    """The claim on one store file; free when released, or when this process is gone."""

    def __init__(self, path: Path) -> None:
        """Claim ``path``.

        Raises ``CheckpointBusyError`` that names the live process which holds it, ``OSError``.
        """
        self._file = owner_file(path)
        self._name = str(self._file)
        self._pid = os.getpid()
        if self._name in _mine:
            raise _busy(path, f"this process ({os.getpid()})")
        descriptor = _claimed(self._file)
        if descriptor is None:
            raise _busy(path, _named(self._file))
        _mine[self._name] = descriptor
        identity = json.dumps(ProcessIdentity.of_this_process().to_json()).encode("ascii")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, identity, 0)

    def release(self) -> None:
        """Give the claim up and remove its file.  Idempotent; nothing in a fork."""
        if os.getpid() != self._pid or self._name not in _mine:
            return
        remove_quietly(self._file)
        os.close(_mine.pop(self._name))


def _claimed(file: Path) -> int | None:
    """Return the descriptor that holds the lock; ``None`` if somebody else has it and keeps it.

    Somebody who asks whether a file has an owner holds its lock for a moment, hence the patience.
    """
    until = time.monotonic() + _PATIENCE_S
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(file, descriptor):
                return descriptor
        except (BlockingIOError, PermissionError):
            if time.monotonic() > until:
                os.close(descriptor)
                return None
            time.sleep(0.01)
        os.close(descriptor)


def _is_still(file: Path, descriptor: int) -> bool:
    """Whether the name still stands for the file that is open: it may have been tidied away."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def remove_if_free(file: Path) -> None:
    """Remove an owner's file unless its owner lives."""
    if str(file) in _mine:
        return
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        # Locked while it goes, so that nobody can claim it in between unnoticed.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_quietly(file)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def has_live_owner(path: Path) -> bool:
    """Whether a live process claims this store file."""
    file = owner_file(path)
    if str(file) in _mine:
        return True
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_mine(path: Path) -> bool:
    """Whether this process claims this store file."""
    return str(owner_file(path)) in _mine


def owner_in_words(path: Path) -> str:
    """Return who claims a store file, as a message names it."""
    return _named(owner_file(path))


def _busy(path: Path, owner: str) -> CheckpointBusyError:
    return CheckpointBusyError(
        f'checkpoint file "{path}" is being written by {owner}; wait until it ends, cancel it, '
        "or choose another folder with --checkpoint DIR"
    )


def _named(file: Path) -> str:
    try:
        owner = ProcessIdentity.from_json(json.loads(file.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    return f"process {owner.pid} on {owner.host}"

"""Can sockets be made where runs put them, and which were left behind?"""

from __future__ import annotations

import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from flows.diagnosis.examination import Examination
from flows.diagnosis.finding import Finding, ok, problem, warning
from flows.places import SOCKET_PATH_BYTES, short_folder, state_directory

_NAME = re.compile(r"(?P<number>[0-9a-f]{1,16})\.(?:driver|keeper)")
_LONGEST_NAME = "ffffffffff.keeper"
_ANSWER_WITHIN_S = 0.5
_NEW_S = 10.0
"""A socket that is just being made does not listen yet."""


def check_sockets(examination: Examination) -> Iterator[Finding]:
    """Look at the folder of this user's sockets and locks, then for sockets of dead processes."""
    try:
        folder = state_directory()
    except (OSError, RuntimeError) as error:
        message = f"there is none for sockets and locks: {error}"
        yield problem("folder", message, "set XDG_STATE_HOME to a folder that you may write to")
        return
    yield _judge_folder("folder", folder)
    yield from _length(folder)
    yield from _stale(examination)


def _judge_folder(subject: str, folder: Path) -> Finding:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        message = f'"{folder}" is not a folder of user {os.getuid()}: its owner is {found.st_uid}'
        return problem(subject, message, "set XDG_STATE_HOME to a short path of your own")
    if not os.access(folder, os.W_OK | os.X_OK):
        message = f'"{folder}" cannot be written'
        return problem(subject, message, f'chmod 700 "{folder}"')
    if found.st_mode & 0o077:
        message = f'"{folder}" is open to others: its mode is {found.st_mode & 0o777:o}'
        return warning(subject, message, f'chmod 700 "{folder}"')
    return ok(subject, f'"{folder}", for user {os.getuid()} alone')


def _length(folder: Path) -> Iterator[Finding]:
    length = len(os.fsencode(folder / _LONGEST_NAME))
    if length <= SOCKET_PATH_BYTES:
        yield ok("path length", f"{length} bytes of {SOCKET_PATH_BYTES}")
        return
    short = short_folder()
    message = (
        f'{length} bytes are too long for a socket in "{folder}" (at most '
        f'{SOCKET_PATH_BYTES}); they lie in "{short}" instead'
    )
    yield warning("path length", message, "set XDG_STATE_HOME to a shorter path")
    if short.exists() or short.is_symlink():
        yield _judge_folder("short folder", short)


def _stale(examination: Examination) -> Iterator[Finding]:
    found = [path for path in socket_files() if _is_stale(path)]
    if not found:
        yield ok("stale", "no socket without a listener")
        return
    names = ", ".join(path.name for path in found[:5]) + ("…" if len(found) > 5 else "")
    message = f'{len(found)} in "{found[0].parent}" that nobody listens at: {names}'
    if not examination.fix:
        yield warning("stale", message, "remove them: doctor --fix")
        return
    for path in found:
        path.unlink(missing_ok=True)
    yield ok("stale", f"{message}; removed")


def socket_files() -> Iterator[Path]:
    """Yield the sockets of this user's runs, live and dead."""
    for folder in (state_directory(), short_folder()):
        if not folder.is_dir() or folder.is_symlink():
            continue
        for path in sorted(folder.iterdir()):
            if _NAME.fullmatch(path.name) and _is_own_socket(path):
                yield path


def run_number_of_socket(path: Path) -> int | None:
    """Return the number of the run that a socket was made for."""
    match = _NAME.fullmatch(path.name)
    return int(match["number"], 16) if match else None


def somebody_listens(path: Path) -> bool:
    """Whether a process accepts connections at a socket; ``True`` where that is not certain."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_WITHIN_S)
        try:
            connection.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # too busy to accept, or not ours to ask
            return True
    return True


def _is_own_socket(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid()


def _is_stale(path: Path) -> bool:
    try:
        age_s = time.time() - path.lstat().st_mtime
    except OSError:
        return False
    return age_s > _NEW_S and not somebody_listens(path)

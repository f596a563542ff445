"""Can the folders of runs and checkpoints hold what will be written there?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flows.diagnosis.examination import Examination, in_time
from flows.diagnosis.finding import Finding, ok, problem, warning
from tasks.checkpoint.errors import CheckpointRefusedError
from tasks.checkpoint.file_systems import FileSystem, local_directory_for

_LITTLE_BYTES = 1 << 30
_TOO_LITTLE_BYTES = 100 << 20
_FEW_INODES = 20_000
_TOO_FEW_INODES = 1_000
_INODES_PER_JOB = 4
"""Its directory, log and link, and at times its environment."""

_IN_MEMORY = ("tmpfs", "ramfs")


class _Look(NamedTuple):
    """What touching a folder showed."""

    real: Path
    """Where the folder is, or will be, behind symbolic links."""
    there: Path
    """The folder itself, or the nearest one above it that exists."""
    room: os.statvfs_result
    trouble: str
    """Why nothing can be written there; empty where it can."""


def check_places(examination: Examination) -> Iterator[Finding]:
    """Look at the file systems: their kind, whether they can be written, what is free."""
    yield from _place(examination, "runs", examination.runs)
    yield from _place(examination, "checkpoint", examination.checkpoint)
    yield from _place(examination, "temporary", Path(tempfile.gettempdir()))


def _place(examination: Examination, subject: str, path: Path) -> Iterator[Finding]:
    # By the mount table first: touching a folder on a dead server blocks for ever.
    system = examination.mounts.file_system(path)
    look = in_time(lambda: _look(path))
    if look is None:
        option = "--checkpoint" if subject == "checkpoint" else "--runs"
        message = f'"{path}" on {system} does not answer; is its server up?'
        yield problem(subject, message, f"bring it back or choose another: {option} DIR")
        return
    if system.is_safe:
        system = examination.mounts.file_system(look.real)
    yield _kind(examination, subject, path, system)
    if look.trouble:
        yield problem(subject, look.trouble, f"choose a folder that {_user()} may write to")
    yield judge_room(subject, look.there, look.room)


def _user() -> str:
    return f"user {os.getuid()}"


def _look(path: Path) -> _Look:
    real = path.resolve()
    there = next(folder for folder in (real, *real.parents) if folder.exists())
    return _Look(real, there, os.statvfs(there), _trouble(real, there))


def _trouble(real: Path, there: Path) -> str:
    if not there.is_dir():
        return f'"{there}" is no folder'
    if real == there:
        return _trouble_in_use(there)
    if not os.access(there, os.W_OK | os.X_OK):
        return f'"{real}" does not exist, and "{there}" cannot be written'
    return ""


def _trouble_in_use(folder: Path) -> str:
    """Do there what every run does: a folder, a file, a link, a rename over another."""
    doing = "make folders"
    try:
        # Hidden: whatever lists the folder takes it for no run.
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as name:
            trial = Path(name)
            doing = "write files"
            (trial / "file").write_bytes(b"holdfast\n")
            doing = "make symbolic links"
            (trial / "link").symlink_to("file")
            (trial / "newer").symlink_to("file")
            doing = "rename one link over another"
            (trial / "newer").replace(trial / "link")
    except OSError as error:
        return f'cannot {doing} in "{folder}": {error.strerror or error}'
    return ""


def _kind(examination: Examination, subject: str, path: Path, system: FileSystem) -> Finding:
    where = f'"{path}" on {system}'
    if subject == "checkpoint" and not system.is_safe:
        return _network_checkpoint(examination, path, where)
    if not system.is_safe:
        message = f"{where}: a network file system, where each job costs several round trips"
        return warning(subject, message, "put runs on a local disk and copy what is to be kept")
    if system.type in _IN_MEMORY and subject != "temporary":
        message = f"{where}: in memory, so that nothing is left after a reboot"
        return warning(subject, message, "choose a folder on a disk")
    return ok(subject, where)


def _network_checkpoint(examination: Examination, path: Path, where: str) -> Finding:
    try:
        live = local_directory_for(path, examination.mounts)
    except CheckpointRefusedError as error:
        return problem("checkpoint", str(error), "choose a local folder with --checkpoint DIR")
    message = f'{where}: a network file system; live files lie in "{live}" and are published'
    return warning("checkpoint", message, "choose a local folder with --checkpoint DIR")


def judge_room(subject: str, folder: Path, room: os.statvfs_result) -> Finding:
    """Say what the free space and inodes of a folder's file system are good for."""
    free_bytes = room.f_bavail * room.f_frsize
    # File systems that make inodes as they need them state none at all.
    free_inodes = room.f_favail if room.f_files else None
    message = f"{_bytes_text(free_bytes)} free"
    if free_inodes is not None:
        message += f", and inodes for {free_inodes // _INODES_PER_JOB:,} jobs"
    advice = f'make room on the file system of "{folder}"; old runs can be removed'
    if free_bytes < _TOO_LITTLE_BYTES or _fewer(free_inodes, _TOO_FEW_INODES):
        return problem(subject, message, advice)
    if free_bytes < _LITTLE_BYTES or _fewer(free_inodes, _FEW_INODES):
        return warning(subject, message, advice)
    return ok(subject, message)


def _fewer(inodes: int | None, limit: int) -> bool:
    return inodes is not None and inodes < limit


def _bytes_text(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"

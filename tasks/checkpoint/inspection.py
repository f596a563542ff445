"""Looking at every file of a store directory before any of them is opened."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tasks.checkpoint.data_file import DamagedFileError, check_size
from tasks.checkpoint.header import NewerFormatError
from tasks.checkpoint.owner import has_live_owner, is_mine
from tasks.checkpoint.read_through import read_through_in_child
from tasks.checkpoint.record import FORMAT
from tasks.checkpoint.seal import Contents, Seal, read_seal, seal_holds
from tasks.checkpoint.withdrawn_log import DamagedLogError, read

PUBLISHES_WITHIN_S = 3600.0
"""A copy that another host published and did not renew for this long has a dead writer."""


UNKNOWN = Contents(0, 0, 0, 0)
"""Of a file that is being written."""


class FileState(Enum):
    """What may be done with a store file."""

    LIVE = "live"
    """Its writer lives."""
    PUBLISHED = "published"
    """A copy of a live file on another host's disk; it will be replaced by a newer one."""
    SEALED = "sealed"
    """Its writer closed it; it never changes again."""
    LEFT = "left"
    """Its writer was killed; it was read through and is whole."""


@dataclass(frozen=True, slots=True)
class StoreFile:
    """One file that can be read."""

    path: Path
    state: FileState
    contents: Contents
    size_bytes: int


@dataclass(slots=True)
class Inspection:
    """What a store directory holds."""

    files: list[StoreFile] = field(default_factory=list)
    damaged: dict[Path, str] = field(default_factory=dict)
    """Files that must not be opened, with the reason."""
    withdrawn: dict[bytes, int] = field(default_factory=dict)
    """Sources whose withdrawal was lost, by key, with the generation of the withdrawal."""
    logs_without_file: list[Path] = field(default_factory=list)
    nothing_counts: bool = False
    """Withdrawals were lost and nobody can tell which: no record may be believed."""
    messages: list[str] = field(default_factory=list)


def store_files(directory: Path) -> list[Path]:
    """Return the paths of a store's files, whatever is in them."""
    return sorted(path for path in directory.glob("*.mdb") if not path.name.startswith("."))


def inspect(directory: Path) -> Inspection:
    """Judge every file of the directory; opens none through LMDB in this process.

    Raises ``NewerFormatError`` for a file of a newer version, and ``FileNotFoundError`` when
    somebody else merged files meanwhile: then ask again.
    """
    result = Inspection()
    unknown: list[Path] = []
    broken_seals: dict[Path, Seal] = {}
    for path in store_files(directory):
        live = has_live_owner(path)
        if is_mine(path):
            continue  # open in this process; whoever opened it adds it to what is looked at
        seal = None if live else read_seal(path)
        if seal is not None:
            if seal_holds(path, seal):
                result.files.append(_sealed(path, seal))
                continue
            broken_seals[path] = seal
        try:
            check_size(path)
        except DamagedFileError as error:
            result.damaged[path] = str(error)
            continue
        if live:
            # Its writer reads it too; each of its records is checked when it is looked up.
            result.files.append(StoreFile(path, FileState.LIVE, UNKNOWN, path.stat().st_size))
        else:
            unknown.append(path)
    _read_unknown(unknown, broken_seals, result)
    _read_logs(directory, result)
    _put_in_words(result)
    return result


def _sealed(path: Path, seal: Seal) -> StoreFile:
    if seal.contents.format > FORMAT:
        raise NewerFormatError(path, seal.contents.format)
    status = path.stat()
    fresh = time.time() - status.st_mtime < PUBLISHES_WITHIN_S
    state = FileState.PUBLISHED if not seal.final and fresh else FileState.SEALED
    return StoreFile(path, state, seal.contents, status.st_size)


def _read_unknown(
    unknown: Sequence[Path], broken_seals: Mapping[Path, Seal], result: Inspection
) -> None:
    if not unknown:
        return
    for path, contents in read_through_in_child(unknown).items():
        if isinstance(contents, str):
            result.damaged[path] = contents
            continue
        if path in broken_seals and contents != broken_seals[path].contents:
            result.damaged[path] = "it is not what its seal says, and part of it is missing"
            continue
        result.files.append(StoreFile(path, FileState.LEFT, contents, path.stat().st_size))


def _read_logs(directory: Path, result: Inspection) -> None:
    """Find the withdrawals that are logged and stand in no file that can be read."""
    whole = {file.path: file for file in result.files}
    for log in sorted(directory.glob("*.withdrawn")):
        path = log.with_suffix(".mdb")
        file = whole.get(path)
        if is_mine(path) or (file is not None and file.state is FileState.LIVE):
            continue
        if file is None and path not in result.damaged:
            result.logs_without_file.append(log)
        try:
            # Half an entry at the end is what a killed writer leaves.  Beside a file that is gone
            # or damaged nobody knows what else it may be.
            for entry in read(log, torn_end=file is not None):
                if file is None:
                    _withdraw(entry.key, entry.generation, result)
                elif entry.sequence > file.contents.sequence:
                    # The file lost its last commits: its own older word does not count either.
                    _withdraw(entry.key, entry.generation + 1, result)
        except DamagedLogError as error:
            if file is None:
                result.nothing_counts = True
                result.messages.append(f"{error}: which sources were running cannot be told")


def _withdraw(key: bytes, generation: int, result: Inspection) -> None:
    result.withdrawn[key] = max(result.withdrawn.get(key, 0), generation)


def _put_in_words(result: Inspection) -> None:
    for path, why in result.damaged.items():
        result.messages.append(
            f'checkpoint file "{path}" is damaged: {why}. What only it knew will run again'
        )
    for log in result.logs_without_file:
        result.messages.append(
            f'checkpoint file "{log.with_suffix(".mdb")}" is gone. What only it knew will run again'
        )
    if result.nothing_counts:
        result.messages.append("no record of earlier runs can be believed: everything runs again")

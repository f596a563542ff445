"""Making few files out of many, and few large ones out of several.

Every run leaves a file for each of its writers.  Files whose writer is gone never change, so some
of them can be replaced by one that says the same, whatever the others say: the newest generation
wins either way.  Small files are merged whenever there are two, a large one only when the smaller
ones together are a fair part of it: so the cost of merging stays in proportion to what was added.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from tasks.checkpoint.durable import remove_quietly, sync_directory
from tasks.checkpoint.environment import (
    Environment,
    lock_file,
    open_to_read,
    open_to_write,
)
from tasks.checkpoint.header import Header
from tasks.checkpoint.inspection import (
    PUBLISHES_WITHIN_S,
    FileState,
    Inspection,
    StoreFile,
    store_files,
)
from tasks.checkpoint.owner import has_live_owner, is_mine, owner_file, remove_if_free
from tasks.checkpoint.record import (
    Outcome,
    encode,
    generation_of,
    generations_of,
    is_withdrawn,
)
from tasks.checkpoint.seal import Contents, seal_file
from tasks.checkpoint.view import View
from tasks.checkpoint.withdrawn_log import DamagedLogError, Withdrawal, append, log_of, read

_SMALL_BYTES = 1 << 20
_FAIR_PART = 4
_BLOCK = 20_000

Items = Iterable[tuple[bytes, bytes]]


def chosen_for_merge(files: Iterable[StoreFile]) -> list[StoreFile]:
    """Return the files that are worth merging now: empty, or at least two."""
    chosen: list[StoreFile] = []
    total = 0
    for file in sorted(files, key=lambda file: file.size_bytes):
        if chosen and file.size_bytes > max(_SMALL_BYTES, _FAIR_PART * total):
            break
        chosen.append(file)
        total += file.size_bytes
    return chosen if len(chosen) > 1 else []


def tidy(directory: Path, stem: str, inspection: Inspection, floor: int, *, shared: bool) -> None:
    """Leave few, sealed, whole files: merge, seal, set aside.  Needs the store's lock.

    Whatever moment this is killed at, the files that are there say the same as before.
    ``shared``: other hosts may be writing; what they are about to publish is left alone.
    Raises ``OSError`` and the errors of LMDB.
    """
    final = [f for f in inspection.files if f.state in (FileState.SEALED, FileState.LEFT)]
    rest = [f for f in inspection.files if f not in final]
    empty = [f for f in final if f.contents.entries == 0]
    final = [f for f in final if f.contents.entries]
    chosen = chosen_for_merge(final)
    if inspection.withdrawn and not chosen:
        chosen = final[:1]
    if chosen or inspection.withdrawn:
        mine = any(is_mine(path) for path in store_files(directory))
        alone = len(chosen) == len(final) and not rest and not mine
        _merge(directory / f"{stem}.mdb", chosen, inspection.withdrawn, floor, alone=alone)
    _set_aside(inspection.damaged)
    _remove(file.path for file in (*chosen, *empty))
    for file in final:
        if file.state is FileState.LEFT and file not in chosen:
            seal_file(file.path, file.contents)
            remove_quietly(owner_file(file.path), lock_file(file.path))
    if not shared:
        remove_quietly(*inspection.logs_without_file)
    _remove_traces(directory, shared=shared)
    sync_directory(directory)


def _merge(
    target: Path,
    chosen: Sequence[StoreFile],
    withdrawn: Mapping[bytes, int],
    floor: int,
    *,
    alone: bool,
) -> None:
    """Write one sealed file that says what ``chosen`` say, with ``withdrawn`` taken back.

    ``alone``: no other file is left that could call a withdrawn source done.
    """
    environments = [open_to_read(file.path) for file in chosen]
    try:
        files = [(e, f.contents.highest) for e, f in zip(environments, chosen, strict=True)]
        items = View(files, floor=floor).items()
        if withdrawn:
            items = _with_withdrawn(items, withdrawn)
        if alone:
            items = (item for item in items if not is_withdrawn(item[1]))
        else:
            _carry_logs_over(target, chosen, environments, withdrawn)
        write_sealed(target, items)
    finally:
        for environment in environments:
            environment.close()


def _with_withdrawn(items: Items, withdrawn: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Merge the withdrawals in, in the order of the keys; newer records stay."""
    waiting = sorted(withdrawn.items(), reverse=True)
    for key, value in items:
        while waiting and waiting[-1][0] < key:
            yield _taken_back(*waiting.pop())
        if waiting and waiting[-1][0] == key:
            _, generation = waiting.pop()
            if generation_of(value) < generation:
                yield _taken_back(key, generation)
                continue
        yield key, value
    while waiting:
        yield _taken_back(*waiting.pop())


def _taken_back(key: bytes, generation: int) -> tuple[bytes, bytes]:
    return key, encode(key, Outcome.WITHDRAWN, generation)


def _carry_logs_over(
    target: Path,
    chosen: Sequence[StoreFile],
    environments: Sequence[Environment],
    withdrawn: Mapping[bytes, int],
) -> None:
    """Write the log that ``target`` needs should it be damaged one day."""

    def entries() -> Iterator[Withdrawal]:
        for file, environment in zip(chosen, environments, strict=True):
            log = log_of(file.path)
            try:
                for entry in read(log, torn_end=True):
                    yield entry._replace(sequence=0)
            except DamagedLogError:
                # What was in the log is unknown: everything the file speaks of may have been.
                for key, value in environment.items():
                    if not Header.is_header(key):
                        yield Withdrawal(key, generation_of(value), 0)
        for key, generation in withdrawn.items():
            yield Withdrawal(key, generation, 0)

    log = log_of(target)
    remove_quietly(log)
    if withdrawn or any(log_of(file.path).exists() for file in chosen):
        append(log, entries())


def write_sealed(target: Path, items: Items) -> None:
    """Write a sealed store file; the items come in the order of their keys.

    It gets its name when it is durable: until then nothing is synced, since a file that was not
    finished is thrown away.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    remove_quietly(temporary, lock_file(temporary))
    environment = open_to_write(temporary, 1 << 24, sync=False)
    entries = 0
    generations: set[int] = set()
    rest = iter(items)
    try:
        environment.write([Header(target.stem).item()], append=True)
        while block := list(islice(rest, _BLOCK)):
            environment.write(block, append=True)
            entries += len(block)
            generations |= generations_of(block)
    except BaseException:
        environment.close()
        remove_quietly(temporary, lock_file(temporary))
        raise
    environment.close()
    remove_quietly(lock_file(temporary))
    if entries == 0:
        remove_quietly(temporary)
        return
    seal_file(temporary, Contents(entries, min(generations), max(generations), 0))
    temporary.rename(target)
    sync_directory(target.parent)


def _set_aside(damaged: Iterable[Path]) -> None:
    for path in damaged:
        if has_live_owner(path):
            continue  # it is not read, but its writer would stumble if it went
        number = 1
        while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
            number += 1
        path.rename(aside)
        remove_quietly(log_of(path), owner_file(path), lock_file(path))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        # The file before its log: a log without a file takes back, which is harmless; a file
        # without its log would be believed for ever.
        remove_quietly(path)
        remove_quietly(log_of(path), owner_file(path), lock_file(path))


def _remove_traces(directory: Path, *, shared: bool) -> None:
    """Remove what killed writers and merges left beside no store file."""
    for path in directory.glob("*.owner"):
        if not path.with_suffix(".mdb").exists():
            remove_if_free(path)
    for path in directory.glob("*.mdb-lock"):
        if not path.with_name(path.name.removesuffix("-lock")).exists():
            remove_quietly(path)
    for path in directory.glob(".*.tmp*"):
        if not shared or time.time() - path.stat().st_mtime > PUBLISHES_WITHIN_S:
            remove_quietly(path)

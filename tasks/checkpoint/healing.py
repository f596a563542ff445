"""What a start does to a store directory before it trusts it, under the store's lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

from tasks.checkpoint.durable import in_words, remove_quietly
from tasks.checkpoint.environment import lock_file
from tasks.checkpoint.generations import RESET_ALL, Generations, Mark
from tasks.checkpoint.inspection import Inspection, inspect, store_files
from tasks.checkpoint.merging import tidy, write_sealed
from tasks.checkpoint.owner import has_live_owner, owner_file
from tasks.checkpoint.publishing import publish_file
from tasks.checkpoint.record import Outcome, detail_of, encode, key_of
from tasks.checkpoint.seal import seal_file
from tasks.checkpoint.withdrawn_log import Withdrawal, append, log_of
from tasks.checkpoint.writer import own_stem
from tasks.errors import HoldfastError
from tasks.status import RunStatus

Say = Callable[[str], None]


def heal(directory: Path, live: Path, generations: Generations, say: Say) -> Inspection:
    """Merge, seal and set aside; returns what was found.  Raises ``CheckpointError``."""
    inspection = inspect(directory)
    for message in inspection.messages:
        say(message)
    if inspection.nothing_counts:
        mark_reset(generations, next_number(generations, inspection), RESET_ALL)
    stem = f"{free_stem((directory,))}-merged-{generations.newest}"
    try:
        tidy(directory, stem, inspection, generations.floor, shared=live != directory)
    except HoldfastError:
        raise
    except Exception as error:
        raise in_words(directory, "merging files", error) from error
    return inspection


def adopt_local_files(directory: Path, live: Path, say: Say) -> None:
    """Publish what dead writers of this host left on its own disk, if the store is elsewhere."""
    if live == directory:
        return
    left = [path for path in store_files(live) if not has_live_owner(path)]
    found = inspect(live) if left else Inspection()
    for message in found.messages:
        say(message)
    for file in found.files:
        if file.path in left and file.contents.entries:
            seal_file(file.path, file.contents)
            publish_file(file.path, directory / file.path.name)
    for path in left:
        remove_quietly(path, owner_file(path), lock_file(path))


def next_number(generations: Generations, inspection: Inspection) -> int:
    """Return a number above all that any file knows, also where the marks are damaged."""
    known = [file.contents.highest for file in inspection.files]
    return max([generations.newest, *known, *inspection.withdrawn.values()]) + 1


def mark_reset(generations: Generations, number: int, kind: str) -> None:
    """Take a generation for a reset, of some sources or of all."""
    generations.start(Mark(number, "checkpoint reset", time.time(), number, kind=kind))
    generations.end(number, RunStatus.COMPLETED.value, {})


def withdraw_apart(directory: Path, sources: Collection[str], generation: int) -> None:
    """Withdraw these sources in a file of their own."""
    target = directory / f"{free_stem((directory,))}-reset.mdb"
    keys = sorted((key_of(name), name) for name in sources)
    append(log_of(target), (Withdrawal(key, generation, 0) for key, _ in keys))
    write_sealed(
        target,
        (
            (key, encode(key, Outcome.WITHDRAWN, generation, b"", detail_of(name)))
            for key, name in keys
        ),
    )


def free_stem(directories: Collection[Path], wanted: str | None = None) -> str:
    """Return a name that no file has; one that was asked for may have a live owner.

    By default it is made of this process's host, pid and start time.
    """
    stem = first = wanted if wanted is not None else own_stem()
    number = 1
    while _is_used(directories, stem):
        if wanted is not None and any(has_live_owner(d / f"{stem}.mdb") for d in directories):
            break
        number += 1
        stem = f"{first}-{number}"
    return stem


def _is_used(directories: Collection[Path], stem: str) -> bool:
    return any(
        (directory / f"{stem}{suffix}").exists()
        for directory in directories
        for suffix in (".mdb", ".withdrawn")
    )

"""Copies of a live file for other hosts, on a file system that cannot hold the live file itself.

The live file stays on this host's own disk.  A copy is compacted and sealed there, written to the
shared directory under a hidden name, synced, and renamed: a reader on any host finds the old copy
or the new one, and never a file that changes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tasks.checkpoint.durable import remove_quietly, sync_directory
from tasks.checkpoint.environment import Environment
from tasks.checkpoint.seal import Contents, seal_file

PUBLISH_EVERY_S = 30.0


def publish_copy(
    environment: Environment, target: Path, contents: Contents, *, final: bool
) -> None:
    """Publish what an open live file holds now as ``target``.

    Raises ``OSError`` and the errors of LMDB.
    """
    copy = environment.path.with_name(f".{environment.path.name}.copy")
    remove_quietly(copy)
    try:
        environment.copy(copy)
        seal_file(copy, contents, final=final)
        publish_file(copy, target)
    finally:
        remove_quietly(copy)


def publish_file(source: Path, target: Path) -> None:
    """Make ``target`` a durable copy of a sealed file that lies on another file system."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        temporary.rename(target)
    except BaseException:
        remove_quietly(temporary)
        raise
    sync_directory(target.parent)

"""Where a store lies and how it writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tasks.checkpoint.file_systems import MountTable
from tasks.checkpoint.publishing import PUBLISH_EVERY_S
from tasks.checkpoint.writer import MAP_BYTES

LOCK_WITHIN_S = 300.0
"""How long somebody else may merge files before it is called stuck."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Everything about a store that can be chosen; the directory is all that must be."""

    directory: Path
    local_candidates: tuple[Path, ...] | None = None
    """Where to look for a local disk if the directory is on a network file system."""
    mounts: MountTable = field(default_factory=MountTable)
    map_bytes: int = MAP_BYTES
    """The first size of a writer's map; it grows."""
    publish_every_s: float = PUBLISH_EVERY_S
    lock_within_s: float = LOCK_WITHIN_S

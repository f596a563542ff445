"""A job graph that was read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.spec import JobRecord


@dataclass(frozen=True, slots=True)
class JobGraph:
    """Jobs whose ids differ and whose needs exist and make no cycle, and what they share."""

    name: str
    """Names the run, its lock and its checkpoint."""
    resources: Mapping[str, int | tuple[str, ...]]
    """A count, or the ids that are handed out."""
    max_parallel: int | None
    """Jobs at a time; ``None``: the graph does not say."""
    jobs: Sequence[JobRecord]
    """In the order of the file, one for each combination of a matrix, globs replaced by ids."""
    cwd: Path
    """Absolute: where jobs without a ``cwd`` run, and what a relative one is relative to."""

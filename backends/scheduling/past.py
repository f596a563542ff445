"""Where jobs stand that another driver, now dead, has led so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backends.base import NO_RESOURCES
from tasks.events import JobEnd
from tasks.status import Cause, JobStatus


@dataclass(frozen=True, slots=True)
class LiveAttempt:
    """An attempt that was started before; its backend tells how it ends."""

    attempt: int
    started_at: float | None = None
    """Seconds since the epoch; ``None`` where it is not known."""
    resources: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: NO_RESOURCES)
    """The ids that it holds."""


@dataclass(frozen=True, slots=True)
class PastJob:
    """What the world has been told of a job, and the attempt of it that lives.

    The telling may lag behind: a driver dies between starting an attempt and saying so.
    """

    status: JobStatus
    attempt: int = 0
    at: float = 0.0
    """When it came to this status, in seconds since the epoch."""
    skipped: bool = False
    live: LiveAttempt | None = None
    """``None`` for a job that is said to be RUNNING: nothing was started."""
    repeated: Sequence[tuple[Cause | None, JobEnd]] = ()
    """How each attempt ended that was repeated."""

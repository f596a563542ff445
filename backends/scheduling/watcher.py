"""Who is told what the scheduler does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tasks.events import JobChanged, KillRequested, RunPaused, RunUnpaused
from tasks.spec import JobRecord


class Watcher(Protocol):
    """Receives every event once, in order, in batches, from the scheduler's thread.

    ``observers.dispatch.Observers`` is one.  What a method raises ends ``Scheduler.run``.  A
    method may call the scheduler: its requests are answered in the next turn.
    """

    def jobs_added(self, jobs: Sequence[JobRecord], /) -> None:
        """These jobs are SCHEDULED from now on; before any of their changes."""

    def jobs_changed(self, events: Sequence[JobChanged], /) -> None:
        """Jobs moved, in this order."""

    def kill_requested(self, event: KillRequested, /) -> None:
        """Somebody asked for jobs to be killed; before the ends that come of it."""

    def run_paused(self, event: RunPaused, /) -> None:
        """No further jobs start."""

    def run_unpaused(self, event: RunUnpaused, /) -> None:
        """Jobs start again."""

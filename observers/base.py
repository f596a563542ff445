"""The base of everything that watches a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tasks.events import (
    Adopted,
    JobChanged,
    KeeperLost,
    KillRequested,
    ObserverFailed,
    RunEnded,
    RunPaused,
    RunStarted,
    RunUnpaused,
)
from tasks.spec import JobRecord


class Observer:
    """Watches a run; override what you care about, the rest does nothing.

    Every method is called from the scheduler's thread, one batch at a time, in order, so it must
    be quick: an observer that is slow owns a queue and a thread of its own.  An observer that
    raises is logged once, switched off and named in the summary; the run goes on.
    """

    essential: ClassVar[bool] = False
    """Whether a run must not go on without this observer: its failure stops the run, exit code 70.

    For what a run is told from afterwards, such as the journal; not for displays and reports.
    """

    remembers: ClassVar[bool] = False
    """Whether it finds on disk what an earlier driver of the run, now dead, has told.

    Others are told again what happened until then when the run is adopted.
    """

    @property
    def name(self) -> str:
        """How messages call this observer."""
        return type(self).__name__

    def run_started(self, event: RunStarted) -> None:
        """The run directory exists; no job has been seen yet."""

    def jobs_added(self, jobs: Sequence[JobRecord]) -> None:
        """These jobs belong to the run from now on, all SCHEDULED; before any of their events."""

    def jobs_changed(self, events: Sequence[JobChanged]) -> None:
        """Jobs moved; one batch, in the order in which it happened."""

    def kill_requested(self, event: KillRequested) -> None:
        """Somebody asked for jobs, or the whole run, to be killed."""

    def run_paused(self, event: RunPaused) -> None:
        """No further jobs start."""

    def run_unpaused(self, event: RunUnpaused) -> None:
        """Jobs start again."""

    def keeper_lost(self, event: KeeperLost) -> None:
        """The keeper died and its jobs were ended."""

    def adopted(self, event: Adopted) -> None:
        """This driver took over jobs of a dead one."""

    def observer_failed(self, event: ObserverFailed) -> None:
        """Another observer raised and was switched off."""

    def run_ended(self, event: RunEnded) -> None:
        """No further events; flush what you hold.  Called once, also after a crash."""

    def close(self) -> None:
        """Let go of files, threads and sockets.  Called last, in any case."""

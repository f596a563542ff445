"""What is examined, and what several checks share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from backends.process_tree import Snapshot, read_processes
from tasks.checkpoint.file_systems import MountTable
from tasks.errors import HoldfastError

if TYPE_CHECKING:
    from flows.diagnosis.keeper_probe import KeeperProbe

Result = TypeVar("Result")

ANSWER_WITHIN_S = 3.0
"""How long a folder or a server may take to answer: a dead one never does."""


class UnsettledError(HoldfastError):
    """A dead run could not be given its end."""


@dataclass
class Examination:
    """The places to look at, and what may be done there."""

    runs: Path
    checkpoint: Path
    offline: bool = False
    """Whether to do without importing Prefect."""
    fix: bool = False
    """Whether to end strays and to remove what is stale."""
    mounts: MountTable = field(default_factory=MountTable)

    def processes(self) -> Snapshot:
        """Return the processes of this host as they are now."""
        return read_processes()

    def settle(self, directory: Path) -> str:
        """Give a dead run its end and return its status; offline Prefect is not told.

        Raises ``UnsettledError`` with the reason, whatever that is: what a dead run left on the
        disk may be anything, and must not keep others from being looked at.
        """
        from flows.settle import settle

        try:
            return settle(directory, report=not self.offline).value
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise UnsettledError(f"it could not be settled: {reason}") from error

    @cached_property
    def runs_answer(self) -> bool:
        """Whether the runs folder can be read at all: whoever asks a dead server hangs."""
        return in_time(self.runs.exists) is not None

    @cached_property
    def keeper(self) -> KeeperProbe:
        """A keeper that was started and ended for this examination."""
        from flows.diagnosis.keeper_probe import probe_keeper

        return probe_keeper()


def in_time(call: Callable[[], Result], limit_s: float | None = None) -> Result | None:
    """Return what the call returns, raise what it raises; ``None`` where it takes too long.

    For calls that may block in the kernel or in a resolver, where they cannot be interrupted.
    ``limit_s`` is ``ANSWER_WITHIN_S`` where it is not given.
    """
    done: list[Result] = []
    # What the call raises must not pass for the error of a call that took too long.
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(call())
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run, name="holdfast-doctor-probe", daemon=True)
    thread.start()
    thread.join(ANSWER_WITHIN_S if limit_s is None else limit_s)
    if failed:
        raise failed[0]
    return done[0] if done else None

"""What the jobs of a run are waiting for, for displays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backends.scheduling.ready_queue import JobKind
from backends.scheduling.supply import UNLIMITED, Supply


@dataclass(frozen=True, slots=True)
class Waiting:
    """Some queued jobs and the one thing that they wait for first of all."""

    jobs: int
    what: str
    """In words: a resource's name, ``a slot``, ``a slot of backend "slurm"``, ``unpause``."""
    in_use: int | None = None
    limit: int | None = None

    def __str__(self) -> str:
        jobs = "1 job waits" if self.jobs == 1 else f"{self.jobs} jobs wait"
        usage = "" if self.limit is None else f" ({self.in_use} of {self.limit} in use)"
        return f"{jobs} for {self.what}{usage}"


def waiting_for_supplies(kinds: Iterable[JobKind], slots: Supply) -> list[Waiting]:
    """Return what queued jobs wait for, the most jobs first.

    A kind that was not looked at yet waits for a slot of the run like everybody.
    """
    jobs: dict[Supply, int] = {}
    for kind in kinds:
        if kind.queued > 0:
            supply = kind.waits_for or slots
            jobs[supply] = jobs.get(supply, 0) + kind.queued
    return [
        Waiting(
            count, supply.what, supply.in_use, None if supply.most == UNLIMITED else supply.most
        )
        for supply, count in sorted(jobs.items(), key=lambda item: -item[1])
    ]

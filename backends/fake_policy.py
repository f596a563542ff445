"""Who decides what becomes of attempts on the fake backend."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from backends.base import Launch
from backends.fake_outcome import FakeOutcome, fails, hangs, passes

FakePolicy = Callable[[Launch], FakeOutcome]
"""Asked once for each attempt, in the order of launches."""

_PASSES = passes()


def everything_passes(launch: Launch) -> FakeOutcome:
    """Pass at once."""
    return _PASSES


class DeclaredPolicy:
    """Outcomes by job id; a list gives one for each attempt, the last for all further ones."""

    def __init__(
        self,
        outcomes: Mapping[str, FakeOutcome | Sequence[FakeOutcome]],
        default: FakeOutcome = _PASSES,
    ) -> None:
        self._outcomes = outcomes
        self._default = default

    def __call__(self, launch: Launch) -> FakeOutcome:
        """Return what was declared for the job."""
        outcome = self._outcomes.get(launch.job.id, self._default)
        if isinstance(outcome, FakeOutcome):
            return outcome
        return outcome[min(launch.attempt, len(outcome)) - 1]


@dataclass(frozen=True, slots=True)
class RandomPolicy:
    """Random outcomes that depend on the seed, the job and the attempt alone, not on the order.

    Durations are uniform between the two bounds, in seconds; shares are between 0 and 1.
    """

    seed: int = 0
    duration_s: tuple[float, float] = (0.0, 0.0)
    failing: float = 0.0
    hanging: float = 0.0
    exit_codes: Sequence[int] = field(default=(1,))

    def __call__(self, launch: Launch) -> FakeOutcome:
        """Return the outcome of this attempt, the same each time."""
        chance = random.Random(f"{self.seed}/{launch.job.id}/{launch.attempt}")  # noqa: S311
        duration_s = chance.uniform(*self.duration_s)
        lot = chance.random()
        if lot < self.failing:
            return fails(chance.choice(self.exit_codes), duration_s)
        if lot < self.failing + self.hanging:
            return hangs()
        return replace(_PASSES, duration_s=duration_s)


@dataclass(frozen=True, slots=True)
class RecordedDurations:
    """Every job passes after as many seconds as it took before."""

    durations_s: Mapping[str, float]
    default_s: float = 0.0

    def __call__(self, launch: Launch) -> FakeOutcome:
        """Return a pass of the recorded length."""
        return passes(self.durations_s.get(launch.job.id, self.default_s))

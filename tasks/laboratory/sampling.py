"""Epochs and directions to try, the same for the same seed on every machine.

Only ``random.Random.random`` is used, whose sequence Python promises to keep; each quantity has
a sequence of its own, so that a larger n extends a smaller one.
"""

from __future__ import annotations

import math
import random

J2000 = 2451545.0
DAYS_PER_YEAR = 365.25
SPAN_DAYS = 30 * DAYS_PER_YEAR

NAMED_EPOCHS = (
    *(2451545.0, 2451545.5, 2451179.5, 2415020.0, 2488069.5),
    *(2457754.5, 2453736.5, 2459580.5, 2460310.5, 2460676.5),
)
"""J2000.0 and half a day later, 1999, the years 1900 and 2100, starts of years with and after
leap seconds, recent years: where implementations have edges."""

_DIAGONAL = 1 / math.sqrt(3)

NAMED_DIRECTIONS = (
    (0.0, 0.0, 1.0),
    (0.0, 0.0, -1.0),
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (_DIAGONAL, _DIAGONAL, _DIAGONAL),
    (_DIAGONAL, _DIAGONAL, -_DIAGONAL),
)
"""Both poles, the equinox, a quarter further on the equator, the diagonals north and south."""

TwoPartDate = tuple[float, float]
"""A Julian date as the sum of two numbers, so that a day's fraction keeps all its digits."""

Direction = tuple[float, float, float]


def epochs(n: int, seed: int) -> list[TwoPartDate]:
    """Return n Julian dates: the named ones, then uniform in J2000.0 + [0, 30 years]."""
    generator = random.Random(f"epochs {seed}")  # noqa: S311 - no secret
    dates: list[TwoPartDate] = [(date, 0.0) for date in NAMED_EPOCHS[:n]]
    while len(dates) < n:
        whole, fraction = divmod(generator.random() * SPAN_DAYS, 1.0)
        dates.append((J2000 + whole, fraction))
    return dates


def directions(n: int, seed: int) -> list[Direction]:
    """Return n unit vectors: the named ones in turn at the named epochs, then uniform."""
    generator = random.Random(f"directions {seed}")  # noqa: S311 - no secret
    vectors: list[Direction] = [
        NAMED_DIRECTIONS[index % len(NAMED_DIRECTIONS)]
        for index in range(min(n, len(NAMED_EPOCHS)))
    ]
    while len(vectors) < n:
        vectors.append(_on_the_sphere(generator))
    return vectors


def _on_the_sphere(generator: random.Random) -> Direction:
    # Archimedes: the height of a uniform point on the sphere is uniform.
    z = 1.0 - 2.0 * generator.random()
    longitude = math.tau * generator.random()
    radius = math.sqrt((1.0 - z) * (1.0 + z))
    return radius * math.cos(longitude), radius * math.sin(longitude), z

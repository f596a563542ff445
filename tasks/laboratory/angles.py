"""Differences of angles that stay exact where they are tiny."""

from __future__ import annotations

import math
from collections.abc import Sequence

ARCSEC_PER_RAD = math.degrees(1.0) * 3600.0
MAS_PER_RAD = ARCSEC_PER_RAD * 1000.0


def separation(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the angle between two vectors in radians.

    From sine and cosine both: the arc cosine alone loses everything below 1e-8 rad (2 mas), and
    the arc sine everything near a right angle.  Vectors need not have unit length; equal ones
    give exactly 0.
    """
    cross = (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )
    dot = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return math.atan2(math.hypot(*cross), dot)


def angle_between(a: float, b: float) -> float:
    """Return how far two angles lie apart, in radians from 0 to pi; whole turns do not count."""
    return abs(math.remainder(a - b, math.tau))

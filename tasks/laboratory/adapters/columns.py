"""Cases as the arrays that vectorised libraries take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def two_part(cases: Sequence[Any], scale: str) -> tuple[Floats, Floats]:
    """Return both parts of the Julian dates."""
    parts = column(cases, scale)
    return parts[:, 0].copy(), parts[:, 1].copy()


def column(cases: Sequence[Any], name: str) -> Floats:
    """Return one field of all cases, a row for each case."""
    return np.array([case[name] for case in cases], dtype=np.float64)

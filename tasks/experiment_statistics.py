"""The few figures that stand for many."""

from __future__ import annotations

import math
from collections.abc import Sequence

QUANTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """Return a quantile of ascending figures, linear between neighbours.

    The definition is number 7 of Hyndman and Fan (The American Statistician 50, 1996), the
    default of NumPy and R.  Raises ``ValueError`` where there are no figures.
    """
    if not ordered:
        raise ValueError("there is no quantile of nothing")
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def summary(figures: Sequence[float]) -> dict[str, float]:
    """Return ``p50``, ``p90``, ``p99`` and ``max``."""
    ordered = sorted(figures)
    return {name: quantile(ordered, fraction) for name, fraction in QUANTILES.items()}


def variation_pct(figures: Sequence[float]) -> float | None:
    """Return the coefficient of variation in per cent; ``None`` for fewer than two figures."""
    if len(figures) < 2:
        return None
    mean = math.fsum(figures) / len(figures)
    if mean == 0:
        return None
    variance = math.fsum((figure - mean) ** 2 for figure in figures) / (len(figures) - 1)
    return 100.0 * math.sqrt(variance) / mean

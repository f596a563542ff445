from __future__ import annotations

import random

import numpy as np
import pytest

from tasks.experiment_statistics import quantile, summary, variation_pct


def test_quantiles_are_those_of_numpy() -> None:
    generator = random.Random(1)
    for count in (1, 2, 3, 10, 99, 100, 101):
        figures = [generator.expovariate(1.0) for _ in range(count)]
        expected = np.percentile(figures, [50, 90, 99, 100])
        assert list(summary(figures).values()) == pytest.approx(list(expected), rel=1e-14)


def test_the_summary_names_the_worst_case() -> None:
    assert summary([3.0, 1.0, 2.0]) == {"p50": 2.0, "p90": 2.8, "p99": 2.98, "max": 3.0}


def test_figures_that_are_all_zero_give_exactly_zero() -> None:
    assert set(summary([0.0] * 7).values()) == {0.0}


def test_a_quantile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        quantile([], 0.5)


def test_the_variation_is_the_sample_deviation_over_the_mean() -> None:
    figures = [10.0, 12.0, 14.0]
    expected = 100.0 * float(np.std(figures, ddof=1)) / 12.0
    assert variation_pct(figures) == pytest.approx(expected)


def test_one_round_has_no_variation() -> None:
    assert variation_pct([10.0]) is None
    assert variation_pct([0.0, 0.0]) is None

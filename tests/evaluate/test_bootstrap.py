"""Intervals of a mean over images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tfllv.evaluate import bootstrap


def test_the_interval_agrees_with_scipys_percentile_bootstrap(rng):
    values = rng.gamma(2.0, 3.0, 60)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    # Two bootstraps differ by chance; 3 % of the interval's width is four of its standard errors at 20,000 draws.
    width = expected.high - expected.low
    np.testing.assert_allclose(bootstrap.mean_interval(values, resamples=20_000), expected, atol=0.03 * width)


def test_the_interval_covers_the_true_mean_as_often_as_it_says(rng):
    hits = [
        low <= 5 <= high
        for low, high in (bootstrap.mean_interval(rng.normal(5, 2, 40), resamples=1000, seed=k) for k in range(300))
    ]
    assert 0.90 <= np.mean(hits) <= 0.98  # of 0.94 expected at 40 values; 0.014 is one standard error


def test_a_seed_fixes_the_interval_and_blocks_do_not_change_it(rng, monkeypatch):
    values = rng.random(30)
    first = bootstrap.mean_interval(values, seed=3)
    assert bootstrap.mean_interval(values, seed=3) == first != bootstrap.mean_interval(values, seed=4)
    monkeypatch.setattr(bootstrap, "_BLOCK", 1000)
    assert bootstrap.mean_interval(values, seed=3) == first


def test_equal_values_have_an_interval_without_width_and_single_ones_none():
    assert bootstrap.mean_interval(np.full(5, 2.5)) == (2.5, 2.5)
    assert bootstrap.mean_interval(np.array([1.0])) is None
    assert bootstrap.mean_interval(np.array([])) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": np.array([1.0, np.inf])}, "must be .* finite"),
        ({"values": np.ones((2, 2))}, r"must be \[N\]"),
        ({"level": 1.0}, "`level` must be in"),
        ({"resamples": 0}, "`resamples` must be >= 1"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap.mean_interval(**{"values": np.ones(3), **options})

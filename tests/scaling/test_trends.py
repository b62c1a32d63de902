"""Correlations over checkpoints, split into within and between runs: against scipy and constructed cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scaling import FitInputError
from scaling.correlation import correlate, describe, trends


def checkpoints(slope_within: float, slope_between: float, runs: int = 12, noise: float = 0.02, seed: int = 0):
    """Ten checkpoints a run: x falls by 1 along training, and differs by 3 from run to run."""
    rng = np.random.default_rng(seed)
    run = np.repeat(np.arange(runs), 10)
    base = np.linspace(0, 3, runs)[run]
    time = np.tile(np.linspace(0.5, -0.5, 10), runs)
    y = slope_between * base + slope_within * time + noise * rng.standard_normal(len(run))
    return base + time + noise * rng.standard_normal(len(run)), y, run


def test_point_values_are_those_of_scipy():
    rng = np.random.default_rng(4)
    run = np.repeat(np.arange(9), 7)
    x, y = rng.integers(0, 12, 63) + run, rng.integers(0, 8, 63) - run
    depth = run % 3
    result = trends(x, y, run, depth, bootstrap=10)
    assert result.pearson.value == pytest.approx(stats.pearsonr(x, y).statistic, rel=1e-12)
    assert result.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-12)
    assert result.kendall.value == pytest.approx(stats.kendalltau(x, y).statistic, rel=1e-12)
    for label, got in ((depth, result.partial), (run, result.within)):
        dummies = (label[:, None] == np.unique(label)).astype(float)
        left = [side - dummies @ np.linalg.lstsq(dummies, side, rcond=None)[0] for side in (x, y)]
        assert got.value == pytest.approx(stats.pearsonr(*left).statistic, rel=1e-10)
    means = [[side[run == number].mean() for number in range(9)] for side in (x, y)]
    assert result.between.value == pytest.approx(stats.pearsonr(*means).statistic, rel=1e-12)
    assert (result.n, result.n_clusters, result.n_groups) == (63, 9, 3)


def test_resamples_are_those_of_repeated_rows():
    """Weights stand for rows: one resample, written out, gives what scipy gives."""
    x, y, run = checkpoints(1.0, 0.3, runs=6, noise=0.5)
    for statistic, name in ((stats.pearsonr, "pearson"), (stats.spearmanr, "spearman"), (stats.kendalltau, "kendall")):
        drawn = np.random.default_rng(7).multinomial(6, np.full(6, 1 / 6), 1)[0]
        rows = np.concatenate([np.tile(np.flatnonzero(run == number), drawn[number]) for number in range(6)])
        only = getattr(trends(x, y, run, bootstrap=1, seed=7), name)
        assert only.interval[0] == pytest.approx(statistic(x[rows], y[rows]).statistic, rel=1e-12)


def test_intervals_agree_with_the_simple_correlation():
    x, y, run = checkpoints(-1.0, -1.0, noise=0.6)
    one, two = trends(x, y, run, bootstrap=3000), correlate(x, y, run, bootstrap=3000)
    assert one.pearson.interval == pytest.approx(two.pearson.interval, abs=0.01)
    assert one.spearman.stderr == pytest.approx(two.spearman.stderr, rel=0.1)


@pytest.mark.parametrize(
    ("within", "between", "code", "words"),
    [
        (-1.0, -1.0, "scaling-trend", "Lower loss goes with higher score along training and from run to run"),
        (-1.0, 0.0, "training-only", "only within training curves"),
        (0.0, -1.0, "between-only", "from run to run"),
        (-1.0, 1.0, "opposite", "mixes the two"),
        (0.0, 0.0, "no-trend", "neither along training nor between runs"),
    ],
)
def test_within_and_between_are_told_apart(within, between, code, words):
    # Noise of a run, the same at all its checkpoints, where runs shall not be told apart by anything else.
    x, y, run = checkpoints(within, between)
    y = y + np.random.default_rng(11).standard_normal(12)[run] * 0.3
    if within == 0.0:
        y = y + np.random.default_rng(3).standard_normal(len(y)) * 0.1
    result = trends(x, y, run, level=0.9, bootstrap=500)
    note = describe(result, "loss", "score")
    assert note.code == code
    assert words in note.message
    if code == "opposite":
        assert result.within.value < -0.9 < 0.9 < result.between.value


def test_few_runs_say_nothing_about_scaling():
    note = describe(trends(*checkpoints(-1.0, -1.0, runs=4), bootstrap=200), "loss", "score")
    assert note.code == "few-runs"
    assert "4 runs cannot show" in note.message


def test_one_checkpoint_a_run_has_nothing_within():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20)
    result = trends(x, x + rng.standard_normal(20), np.arange(20), np.arange(20), bootstrap=100)
    assert np.isnan(result.within.value)
    assert np.isnan(result.partial.value)
    assert result.between.value == pytest.approx(result.pearson.value, rel=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_rows_are_nan(n):
    result = trends(np.arange(n), np.arange(n), np.arange(n), bootstrap=5)
    assert np.isnan(result.pearson.value)
    assert np.isnan(result.between.value)
    assert describe(result, "loss", "score").code == "few-runs"


def test_columns_that_do_not_vary_or_match():
    result = trends(np.full(12, 0.1), np.arange(12), np.repeat(np.arange(6), 2), bootstrap=5)
    assert np.isnan(result.pearson.value)
    assert np.isnan(result.kendall.value)
    with pytest.raises(FitInputError, match="do not match"):
        trends([1, 2], [1, 2, 3], [1, 2, 3])
    with pytest.raises(FitInputError, match="level is 80"):
        trends([1, 2], [1, 2], [1, 2], level=80)

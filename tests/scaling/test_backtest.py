"""Backtests: exact where the law is true, to published digits on real tables, and honest where a law is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from scaling import FitInputError, Points
from scaling.backtest import backtest

# table, filter, cut in FLOPs, rows fitted, rows predicted, mean abs log error, mean signed, max
SPLITS = {
    "chinchilla in_fit": ("chinchilla_epoch", {"in_fit": "True"}, 9.9027e20, 216, 24, 0.01013, -0.00033, 0.02794),
    "chinchilla all": ("chinchilla_epoch", {}, 9.88e20, 220, 25, 0.01388, -0.00496, 0.04217),
    "llama3 all": ("isoflops_llama3", {}, 1e22, 127, 6, 0.00515, 0.00144, 0.01041),
    "llama3 inliers": ("isoflops_llama3", {"outlier": "False"}, 1e21, 104, 12, 0.00471, -0.00119, 0.00884),
    "misfitting all": ("isoflops_misfitting", {}, 2.178e19, 173, 3, 0.01765, -0.01765, 0.02513),
    "misfitting inliers": ("isoflops_misfitting", {"outlier": "False"}, 1.148e19, 100, 6, 0.00780, -0.00780, 0.01292),
}


@pytest.mark.parametrize("name", SPLITS)
def test_published_split(name, published):
    table, equal, cut, n_fit, n_test, mean_abs, mean_signed, greatest = SPLITS[name]
    result = backtest(published(table, **equal), ["chinchilla"], cuts=[cut], bootstrap=0)
    (row,) = result.cuts
    assert (row.n_fit, row.n_test) == (n_fit, n_test)
    assert row.score.mean_abs == pytest.approx(mean_abs, abs=5.1e-6)
    assert row.score.mean_signed == pytest.approx(mean_signed, abs=5.1e-6)
    assert row.score.max_abs == pytest.approx(greatest, abs=5.1e-6)
    assert np.isnan(row.score.coverage)


def test_without_noise_the_true_law_is_exact_and_beats_the_baseline(synthetic):
    result = backtest(synthetic(), max_cuts=6, bootstrap=0)
    best, naive = result.standings
    assert (best.law, naive.law) == ("chinchilla", "power_floor:flops")
    assert max(cut.score.max_abs for cut in result.cuts if cut.law == "chinchilla") < 1e-7
    assert naive.score.mean_abs > 0.01
    codes = [notice.code for notice in result.notices]
    assert "best-law" in codes
    assert not any("chinchilla predicts" in notice.message for notice in result.notices)


def test_cuts_are_spread_over_all_possible_ones(synthetic):
    every, some = backtest(synthetic(), bootstrap=0, max_cuts=99), backtest(synthetic(), bootstrap=0, max_cuts=4)
    assert every.n_cuts == every.n_possible == some.n_possible > some.n_cuts == 4
    flops = [cut.flops for cut in every.cuts if cut.law == "chinchilla"]
    chosen = [cut.flops for cut in some.cuts if cut.law == "chinchilla"]
    assert (chosen[0], chosen[-1]) == (flops[0], flops[-1])
    assert set(chosen) <= set(flops)
    last = every.cuts[len(flops) - 1]
    assert last.extrapolation == pytest.approx(last.flops / last.fitted_flops)


def test_coverage_is_counted_by_reach(synthetic):
    result = backtest(synthetic(noise=0.01), ["chinchilla"], cuts=[1e20, 1e21], bootstrap=100)
    assert [(each.low, each.high) for each in result.bins] == [(1.5, 3), (3, 10), (10, 30)]
    assert sum(each.score.n for each in result.bins) <= sum(cut.n_test for cut in result.cuts)
    for each in result.bins:
        assert each.n_rows <= each.score.n
        assert 0 <= each.score.coverage <= 1
        assert each.score.log_width > 0
    wider = backtest(synthetic(noise=0.01), ["chinchilla"], cuts=[1e20, 1e21], bootstrap=100, level=0.95)
    assert all(b.score.log_width > a.score.log_width for a, b in zip(result.bins, wider.bins, strict=True))


def test_a_constant_sign_is_called_misspecification():
    """A second, slow power of compute: the law takes it for a floor, and predicts too high a loss for ever after."""
    flops = np.geomspace(1e18, 1e24, 40)
    loss = 0.5 * (flops / 1e18) ** -0.4 + 3.0 * (flops / 1e18) ** -0.03
    points = Points(params=flops**0.5, data=flops**0.5 / 6, loss=loss, flops=flops)
    result = backtest(points, ["power_floor:flops"], max_cuts=8, bootstrap=20)
    (standing,) = result.standings
    assert standing.score.mean_signed < 0
    assert (standing.n_high, standing.n_low) == (8, 0)
    (note,) = [notice for notice in result.notices if notice.code == "constant-sign"]
    assert "predicts too high at 8 of 8 cuts" in note.message
    assert any(notice.code == "narrow-intervals" for notice in result.notices)


def test_a_run_is_not_predicted_from_its_own_checkpoints(synthetic):
    points = synthetic()
    run = np.array([f"N{value:.3g}" for value in points.params])
    ends = {label: points.flops[run == label].max() for label in run}
    points = replace(points, cluster=run)
    result = backtest(points, ["chinchilla"], bootstrap=0)
    assert [cut.flops for cut in result.cuts] == sorted(ends.values())[3:]
    for cut in result.cuts:
        assert cut.n_fit == sum(ends[label] < cut.flops for label in run)
        assert cut.n_test == int((points.flops >= cut.flops).sum())


def test_row_order_does_not_matter(synthetic):
    points = synthetic(noise=0.01)
    shuffled = points.take(np.random.default_rng(3).permutation(points.n))
    one, two = (backtest(each, cuts=[1e20], bootstrap=20) for each in (points, shuffled))
    assert one == two


def test_json_has_no_nan(synthetic):
    document = json.loads(json.dumps(backtest(synthetic(), max_cuts=2, bootstrap=0).to_json(), allow_nan=False))
    assert document["schema"] == 1
    assert document["cuts"][0]["score"]["coverage"] is None
    assert {cut["law"] for cut in document["cuts"]} == {"chinchilla", "power_floor:flops"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"laws": []}, "no law to test"),
        ({"laws": ["chinchila"]}, "did you mean 'chinchilla'"),
        ({"laws": ["chinchilla", "chinchilla"]}, "named twice"),
        ({"cuts": [1e10]}, "cut at 1e\\+10 FLOPs: 0 rows of runs end below it; the fit needs 5 rows"),
        ({"cuts": [1e30]}, "no row at or above it"),
        ({"max_cuts": 0}, "make at least one cut"),
        ({"level": 80}, "level is 80"),
        ({"bootstrap": -1}, "bootstrap is -1"),
    ],
)
def test_refusals(options, words, synthetic):
    with pytest.raises(FitInputError, match=words):
        backtest(synthetic(), **options)


def test_points_without_compute_or_with_one_size_are_refused(synthetic):
    points = synthetic()
    with pytest.raises(FitInputError, match="give the points a flops column"):
        backtest(replace(points, flops=None))
    with pytest.raises(FitInputError, match="the fit needs 3 different params"):
        backtest(points.take(points.params < 2e7))
    with pytest.raises(FitInputError, match="the fit needs 5 rows"):
        backtest(replace(points, cluster=np.full(points.n, "one")))

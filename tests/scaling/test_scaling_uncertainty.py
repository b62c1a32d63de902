"""Resampling schemes, warnings and correlations."""

from __future__ import annotations

import numpy as np
import pytest

from scaling import Points, fit
from scaling.correlation import correlate
from scaling.points import places
from tests.scaling.known_surface import surface


def checkpoints(runs_per_size: dict[float, int], *, noise: float = 0.01, seed: int = 0, per_run: int = 8) -> Points:
    """Runs with checkpoints that share the run's own offset."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[float, float, float, str]] = []
    for params, runs in runs_per_size.items():
        for run in range(runs):
            offset = noise * rng.standard_normal()
            for data in np.geomspace(1e9, 1e11, per_run):
                jitter = 0.1 * noise * rng.standard_normal()
                loss = float(surface(np.array(params), data)) * np.exp(offset + jitter)
                rows.append((params, data, loss, f"{params:g}-{run}"))
    params, data, loss, cluster = zip(*rows, strict=True)
    return Points(params=np.array(params), data=np.array(data), loss=np.array(loss), cluster=np.array(cluster))


def codes(result) -> set[str]:
    return {warning.code for warning in result.warnings}


def test_many_sizes_resample_clusters():
    result = fit(checkpoints({size: 2 for size in np.geomspace(1e7, 1e10, 8)}), bootstrap=100, intervals="percentile")
    assert result.n_clusters == 16
    assert result.resampling == "clusters drawn with replacement"


def test_three_sizes_with_seeds_keep_every_size():
    result = fit(checkpoints({1e8: 2, 1e9: 2, 1e10: 2}), bootstrap=200)
    assert "within their model size" in result.resampling
    assert {"no-spare-size", "few-clusters"} <= codes(result)
    assert len(result.draws) == 200
    assert result.parameters["alpha"].stderr > 0


def test_three_single_runs_use_the_wild_bootstrap():
    result = fit(checkpoints({1e8: 1, 1e9: 1, 1e10: 1}), bootstrap=200)
    assert "wild cluster bootstrap" in result.resampling
    assert np.isfinite(result.draws).all()
    assert result.parameters["beta"].stderr > 0


def test_two_runs_a_size_show_the_full_variance():
    """Rao-Wu rescaling: the spread of a size's mean matches run noise / sqrt(2), not half its variance."""
    spreads, truths = [], []
    for seed in range(30):
        points = checkpoints({1e8: 2, 1e9: 2, 1e10: 2}, seed=seed, per_run=6)
        result = fit(points, bootstrap=60, loss="least-squares")
        loss = np.log(_predict(result.draws, 1e10, 1e11))
        spreads.append(loss.std())
        truths.append(
            float(np.log(result.predict(1e10, 1e11))) - np.log(float(surface(np.array(1e10), np.array(1e11))))
        )
    assert np.sqrt(np.mean(np.square(spreads))) == pytest.approx(np.std(truths), rel=0.45)


def _predict(draws: np.ndarray, params: float, data: float) -> np.ndarray:
    e, a, b, alpha, beta = draws.T
    return e + a * params**-alpha + b * data**-beta


LADDER = (6e4, 4.6e5, 1.55e6)


def new_run_is_inside(runs: tuple[int, int, int], seed: int) -> bool:
    """Whether an 80 % interval from three sizes holds a fourth; runs differ by 0.5 %, their points by 0.2 %."""
    rng = np.random.default_rng(seed)
    data = np.linspace(64 * 200, 64 * 800, 13)

    def true_loss(params: float, data: np.ndarray) -> np.ndarray:
        luck = 0.005 * rng.standard_normal() + 0.002 * rng.standard_normal(data.shape)
        return (0.22 + 9 * params**-0.45 + 2.2 * data**-0.3) * np.exp(luck)

    names = [(size, run) for size, count in zip(LADDER, runs, strict=True) for run in range(count)]
    points = Points(
        params=np.repeat([size for size, _ in names], len(data)),
        data=np.tile(data, len(names)),
        loss=np.concatenate([true_loss(size, data) for size, _ in names]),
        cluster=np.repeat([f"{size:g}-{run}" for size, run in names], len(data)),
    )
    low, high = fit(points, bootstrap=100).predict_interval(3.7e6, data[-1])
    return bool(low < true_loss(3.7e6, data[-1:])[0] < high)


@pytest.mark.slow
@pytest.mark.parametrize("runs", [(2, 2, 2), (2, 1, 1)])
def test_three_sizes_with_a_repeat_cover_a_fourth(runs):
    """A quickstart-shaped ladder: one repeated size is enough for an interval that keeps its promise."""
    assert 0.65 <= np.mean([new_run_is_inside(runs, seed) for seed in range(40)]) <= 0.95


def test_three_sizes_without_a_repeat_are_told_to_repeat_one():
    single = fit(checkpoints({1e8: 1, 1e9: 1, 1e10: 1}), bootstrap=50)
    assert "no-repeats" in codes(single)
    assert single.run_freedom == 0
    repeated = fit(checkpoints({1e8: 2, 1e9: 1, 1e10: 1}), bootstrap=50)
    assert "no-repeats" not in codes(repeated)
    assert repeated.run_freedom == 1
    assert repeated.run_noise > 0


def test_clustered_intervals_are_wider_than_row_intervals():
    points = checkpoints({size: 2 for size in np.geomspace(1e7, 1e10, 8)}, noise=0.02)
    by_run = fit(points, bootstrap=200)
    rows = Points(params=points.params, data=points.data, loss=points.loss)
    by_row = fit(rows, bootstrap=200)
    assert by_run.parameters["alpha"].stderr > 1.5 * by_row.parameters["alpha"].stderr


def test_degenerate_resamples_are_counted():
    """Four sizes of which two carry almost all rows: some resamples lose one too many."""
    rng = np.random.default_rng(0)
    params = np.concatenate([np.full(12, 1e8), np.full(12, 1e9), np.full(3, 1e10), np.full(3, 1e7)])
    data = 10 ** rng.uniform(9, 12, len(params))
    loss = surface(params, data) * np.exp(0.005 * rng.standard_normal(len(params)))
    result = fit(Points(params=params, data=data, loss=loss), bootstrap=1000, intervals="percentile")
    assert "degenerate-resamples" in codes(result)
    assert len(result.draws) < 1000


def test_prediction_intervals_cover_new_runs():
    """Nominal 80 % intervals of new runs inside the data, over 100 simulated studies."""
    hits = []
    for seed in range(100):
        rng = np.random.default_rng(1000 + seed)
        params, data = 10 ** rng.uniform(7, 10, 40), 10 ** rng.uniform(9, 12, 40)
        noise = 0.01 * rng.standard_normal(41)
        points = Points(params=params, data=data, loss=surface(params, data) * np.exp(noise[:40]))
        low, high = fit(points, bootstrap=100).predict_interval(1e9, 1e11)
        hits.append(low < surface(np.array(1e9), np.array(1e11)) * np.exp(noise[40]) < high)
    assert 0.70 <= np.mean(hits) <= 0.90


@pytest.mark.parametrize("seed", [0, 1])
def test_fixed_tokens_per_parameter_is_reported(seed):
    rng = np.random.default_rng(seed)
    params = np.geomspace(1e7, 1e10, 20)
    loss = surface(params, 20 * params) * np.exp(0.003 * rng.standard_normal(20))
    result = fit(Points(params=params, data=20 * params, loss=loss, flops=120 * params**2), bootstrap=50)
    assert "collinear" in codes(result)


def test_warnings_name_what_is_wrong():
    rng = np.random.default_rng(0)
    params, data = 10 ** rng.uniform(8.0, 8.3, 9), 10 ** rng.uniform(9, 9.2, 9)
    loss = surface(params, data) * np.exp(0.01 * rng.standard_normal(9))
    flops = 6 * params * data * rng.uniform(1, 1.3, 9)
    points = Points(params=params, data=data, loss=loss, flops=flops)
    result = fit(points, bootstrap=50, predict=[(1e11, 1e13), (2e8, 1e8)])
    assert {"few-rows", "narrow-compute", "flops-convention", "extrapolation", "data-per-param"} <= codes(result)
    for warning in result.warnings:
        assert any(character.isdigit() for character in warning.message)
        assert warning.message.endswith(".")


def test_two_sizes_and_mixed_checkpoints_are_reported():
    points = checkpoints({1e8: 2, 1e9: 2})
    assert "few-params" in codes(fit(points, bootstrap=20))
    single = checkpoints({1e10: 1}, per_run=1)
    mixed = Points(
        params=np.concatenate([points.params, single.params]),
        data=np.concatenate([points.data, single.data]),
        loss=np.concatenate([points.loss, single.loss]),
        cluster=np.concatenate([points.cluster, single.cluster]),
    )
    assert "mixed-checkpoints" in codes(fit(mixed, bootstrap=20))


def test_an_influential_run_is_named():
    """One large run that went wrong carries the exponent: it is named, so that it can be looked at."""
    points = checkpoints({size: 1 for size in (1e7, 1.2e7, 1.4e7, 1.6e7, 1.8e7, 1e10)}, noise=0.003)
    influence = [w for w in fit(points, bootstrap=20).warnings if w.code == "influence"]
    assert len(influence) == 1
    assert "1e+10-0" in influence[0].message


def test_a_one_axis_law_warns_of_what_it_ignores(synthetic):
    assert "ignored-axis" in codes(fit(synthetic(noise=0.01), law="power_floor:flops", bootstrap=20))


def test_a_clean_table_has_no_warnings(synthetic):
    assert codes(fit(synthetic(noise=0.003), bootstrap=100)) == set()


def test_places_join_values_within_a_percent():
    assert list(places(np.array([1e9, 1.005e9, 2e9, 1e8]))) == [1, 1, 2, 0]


def test_correlation_of_a_known_pair():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(400)
    y = 0.6 * x + 0.8 * rng.standard_normal(400)
    result = correlate(x, y, level=0.95)
    assert result.pearson.value == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-12)
    assert result.pearson.interval[0] < 0.6 < result.pearson.interval[1]
    assert result.pearson.stderr == pytest.approx((1 - 0.36) / 20, rel=0.2)


def test_spearman_shares_ranks_among_ties():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
    assert correlate(x, y, bootstrap=10).spearman.value == pytest.approx(spearmanr(x, y).statistic, rel=1e-12)


def test_correlation_resamples_clusters():
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(12), 10)
    x = rng.standard_normal(12)[run]
    y = 0.5 * x + rng.standard_normal(12)[run]
    by_run, by_row = correlate(x, y, cluster=run), correlate(x, y)
    assert by_run.n_clusters == 12
    assert by_run.pearson.stderr > 2 * by_row.pearson.stderr


@pytest.mark.parametrize(
    ("x", "y"), [([], []), ([1.0, 2.0], [1.0, 2.0]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([np.nan] * 4, [1, 2, 3, 4])]
)
def test_degenerate_correlations_are_nan(x, y):
    result = correlate(x, y, bootstrap=20)
    assert np.isnan(result.pearson.value)
    assert np.isnan(result.spearman.interval[0])

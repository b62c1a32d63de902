"""Tables of very many rows: the same optimum as the ordinary way, and resamples of the same spread."""

from __future__ import annotations

import numpy as np
import pytest

from scaling import FitInputError, Points, bootstrap, fit, large
from scaling.laws import get_law
from scaling.problem import pose, solve


def checkpoints(runs: int, rows: int, seed: int = 0) -> Points:
    """Checkpoints of runs that share a luck of their own, around a known Chinchilla law."""
    rng = np.random.default_rng(seed)
    params = np.repeat(np.geomspace(1e7, 1e9, runs), rows)
    data = np.repeat(rng.permutation(np.geomspace(1e9, 3e10, runs)), rows) * np.tile(np.linspace(0.3, 1.0, rows), runs)
    luck = np.repeat(0.004 * rng.standard_normal(runs), rows) + 0.002 * rng.standard_normal(runs * rows)
    loss = (1.8 + 480 * params**-0.35 + 2100 * data**-0.37) * np.exp(luck)
    return Points(params=params, data=data, loss=loss, cluster=np.repeat([f"r{i}" for i in range(runs)], rows))


def test_the_optimum_is_that_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    points = checkpoints(runs=40, rows=200)
    full = fit(points, bootstrap=0)
    monkeypatch.setattr(large, "MANY_ROWS", 4_000)
    monkeypatch.setattr(large, "PART", 500)
    by_part = fit(points, bootstrap=0)
    assert by_part.objective == pytest.approx(full.objective, rel=1e-10)
    for name, estimate in full.parameters.items():
        assert by_part.parameters[name].value == pytest.approx(estimate.value, rel=1e-5)
    assert by_part.status == "converged"


@pytest.mark.parametrize("law", ["chinchilla", "kaplan", "power:data"])
def test_resampled_scores_spread_as_minimised_resamples_do(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = checkpoints(runs=150, rows=12)
    minimised = fit(points, law=law, bootstrap=300, seed=1)
    monkeypatch.setattr(large, "MANY_ROWS", 1_000)
    monkeypatch.setattr(large, "PART", 1_800)  # all of them: only the resamples differ
    stepped = fit(points, law=law, bootstrap=300, seed=1)
    assert "scores of clusters" in stepped.resampling and "scores of clusters" not in minimised.resampling
    spread = np.log(stepped.draws).std(axis=0) / np.log(minimised.draws).std(axis=0)
    assert np.all((spread > 0.8) & (spread < 1.25)), spread


def test_blocks_of_runs_spread_as_runs_do(monkeypatch: pytest.MonkeyPatch) -> None:
    points = checkpoints(runs=4_000, rows=1)
    problem = pose(get_law("chinchilla"), points.canonical(), 1e-3, None)
    optimum = solve(problem)
    monkeypatch.setattr(large, "MANY_ROWS", 1_000)
    draws = []
    for blocks in (4_000, 400):
        monkeypatch.setattr(large, "_MAX_BLOCKS", blocks)
        draws.append(bootstrap.resample(problem, points.canonical(), optimum, count=600, seed=2).theta)
    ratio = draws[1].std(axis=0) / draws[0].std(axis=0)
    assert np.all((ratio > 0.85) & (ratio < 1.18)), ratio


def test_a_resample_with_every_run_once_is_the_fit_itself() -> None:
    problem = pose(get_law("chinchilla"), checkpoints(runs=30, rows=20).canonical(), 1e-3, None)
    theta = solve(problem).theta
    block = np.arange(600, dtype=np.intp) % 30
    assert large.resampled(problem, theta, block, np.ones((1, 30)))[0] == pytest.approx(theta, abs=1e-8)


def test_least_squares_scores_are_those_of_the_sandwich() -> None:
    points = checkpoints(runs=60, rows=1)
    problem = pose(get_law("power:data"), points.canonical(), np.inf, None)
    theta = solve(problem).theta
    rng = np.random.default_rng(0)
    counts = rng.multinomial(60, np.full(60, 1 / 60), size=20_000).astype(float)
    draws = large.resampled(problem, theta, np.arange(60, dtype=np.intp), counts)
    # log L = log K - g log D is linear in theta: HC0 of ordinary least squares (White 1980), in closed form.
    design = np.stack([np.ones(60), -problem.x[0]], axis=1)
    residual = problem.y - design @ theta
    inverse = np.linalg.inv(design.T @ design)
    sandwich = inverse @ (design.T * residual**2) @ design @ inverse
    assert np.cov(draws.T) == pytest.approx(sandwich, rel=0.05)


def test_few_runs_are_minimised_and_refused_where_that_takes_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    points = checkpoints(runs=6, rows=200)
    ordinary = fit(points, bootstrap=20)
    monkeypatch.setattr(large, "MANY_ROWS", 1_000)
    monkeypatch.setattr(large, "PART", 1_200)
    assert np.array_equal(fit(points, bootstrap=20).draws, ordinary.draws)
    monkeypatch.setattr(large, "_MAX_ELEMENTS", 1_000.0)
    assert fit(points, bootstrap=0).n_points == 1200
    with pytest.raises(FitInputError, match="1200 rows of few runs or sizes"):
        fit(points, bootstrap=20)


def test_places_of_a_dense_axis_are_not_one() -> None:
    values = np.geomspace(1.0, 10.0, 5_000)  # neighbours are closer than 1 %
    number = bootstrap.places(values)
    assert number.max() + 1 == pytest.approx(np.log(10.0) / 0.01, rel=0.02)
    assert np.all(np.diff(number) >= 0)
    assert bootstrap.places(np.array([3.0, 1.0, 1.005, 2.0])).tolist() == [2, 0, 0, 1]

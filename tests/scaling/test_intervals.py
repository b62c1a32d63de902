"""Kinds of interval: published errors, closed forms, coverage, and what open ends look like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scaling import FitInputError, FitResult, Points, fit
from scaling.bootstrap import resample
from scaling.intervals import bca
from scaling.intervals.delta import covariance
from scaling.intervals.kinds import KINDS
from scaling.intervals.profile import profile
from scaling.intervals.quantity import mean_at, quantities
from scaling.lackoffit import bend
from scaling.laws import get_law
from scaling.losses import HUBER, LEAST_SQUARES
from scaling.noise import simulate
from scaling.problem import pose, solve
from tests.scaling.known_surface import surface

# stderr of alpha, beta, E, log A, log B; rows with replacement
PUBLISHED = {
    "chinchilla in_fit": (("chinchilla_epoch", {"in_fit": "True"}), (0.0154, 0.0206, 0.0257, 0.258, 0.421)),
    "chinchilla all": (("chinchilla_epoch", {}), (0.0168, 0.0556, 0.0445, 0.283, 1.169)),
    "llama3 all": (("isoflops_llama3", {}), (0.0197, 0.0188, 0.0088, 0.322, 0.366)),
    "llama3 inliers": (("isoflops_llama3", {"outlier": "False"}), (0.0233, 0.0134, 0.0099, 0.383, 0.262)),
    "misfitting all": (("isoflops_misfitting", {}), (0.0447, 0.0375, 0.0417, 0.777, 0.740)),
    "misfitting inliers": (("isoflops_misfitting", {"outlier": "False"}), (0.0337, 0.0242, 0.0274, 0.579, 0.479)),
    "rpj openlm": (
        ("overtraining", {"train_set": "rpj", "eval_set": "openlm"}),
        (0.0294, 0.0333, 0.1386, 0.438, 0.648),
    ),
}
EXAMPLE = {
    "c4_original": (0.0465, 0.0618, 0.2680, 0.645, 1.189),
    "rpj": (0.0277, 0.0226, 0.2041, 0.386, 0.428),
    "rw_original": (0.0382, 0.0307, 0.2719, 0.529, 0.580),
}
# a, 80 %, with the rows of a budget as one cluster
BUDGETS = {
    "llama3 all": (("isoflops_llama3", {}), (0.479, 0.541)),
    "llama3 inliers": (("isoflops_llama3", {"outlier": "False"}), (0.475, 0.535)),
    "misfitting all": (("isoflops_misfitting", {}), (0.507, 0.551)),
    "misfitting inliers": (("isoflops_misfitting", {"outlier": "False"}), (0.489, 0.526)),
}


def spreads(result: FitResult) -> list[float]:
    p = result.parameters
    return [p["alpha"].stderr, p["beta"].stderr, p["E"].stderr, p["A"].stderr_log, p["B"].stderr_log]


@pytest.mark.parametrize("name", PUBLISHED)
def test_bootstrap_of_rows_on_published_tables(name, published):
    (table, equal), expected = PUBLISHED[name]
    result = fit(published(table, **equal), bootstrap=500, intervals="percentile")
    assert spreads(result) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("train_set", EXAMPLE)
def test_bootstrap_of_rows_on_the_example(train_set, example):
    result = fit(example(train_set), bootstrap=500, intervals="percentile")
    assert spreads(result) == pytest.approx(EXAMPLE[train_set], rel=0.2)


@pytest.mark.parametrize("name", BUDGETS)
def test_bootstrap_of_budgets(name, published):
    (table, equal), expected = BUDGETS[name]
    points = published(table, **equal)
    budgets = replace(points, cluster=np.array([f"{flops:.2e}" for flops in points.flops]))
    result = fit(budgets, bootstrap=800, intervals="percentile")
    assert result.compute_optimal["params_exponent"].interval == pytest.approx(expected, abs=0.008)


def test_errors_of_the_published_replication(published):
    """Besiroglu et al. 2024: A 124.58, B 1293.2, E 0.0257, alpha 0.0154, beta 0.0206, a 0.020 and 0.491 to 0.543."""
    result = fit(published("chinchilla_epoch", in_fit="True"), bootstrap=2000, intervals="percentile")
    got = {name: each.stderr for name, each in result.parameters.items()}
    assert [got["E"], got["alpha"], got["beta"]] == pytest.approx([0.0257, 0.0154, 0.0206], rel=0.08)
    assert [got["A"], got["B"]] == pytest.approx([124.58, 1293.2], rel=0.15)
    split = result.compute_optimal["params_exponent"]
    assert split.stderr == pytest.approx(0.020, rel=0.08)
    assert split.interval == pytest.approx((0.491, 0.543), abs=0.004)


def test_sandwich_and_wald_of_the_published_table(published):
    points = published("chinchilla_epoch", in_fit="True")
    huber = fit(points, bootstrap=0, intervals="delta").parameters
    assert [huber["alpha"].stderr, huber["beta"].stderr] == pytest.approx([0.0240, 0.0160], abs=6e-5)
    squares = fit(points, bootstrap=0, intervals="delta", loss="least-squares").parameters
    assert [squares["alpha"].stderr, squares["beta"].stderr] == pytest.approx([0.0105, 0.0091], abs=6e-5)


def test_profile_of_the_published_table(published):
    points = published("chinchilla_epoch", in_fit="True")
    result = fit(points, bootstrap=0, intervals="profile", loss="least-squares", level=0.95)
    assert result.parameters["alpha"].interval == pytest.approx((0.341, 0.379), abs=2e-3)
    assert result.parameters["beta"].interval == pytest.approx((0.388, 0.424), abs=1e-3)


def test_wald_and_profile_of_a_power_law_are_those_of_a_straight_line():
    """log L = log K - g log x is linear: both have the textbook t interval."""
    from scipy.stats import linregress, t

    rng = np.random.default_rng(0)
    x = np.geomspace(1e6, 1e9, 12)
    loss = 8.0 * x**-0.1 * np.exp(0.02 * rng.standard_normal(12))
    line = linregress(np.log(x), np.log(loss))
    reach = t.ppf(0.9, 10) * line.stderr
    for kind in ("delta", "profile"):
        points = Points(params=x, loss=loss)
        result = fit(points, law="power:params", loss="least-squares", bootstrap=0, intervals=kind)
        assert result.parameters["g"].value == pytest.approx(-line.slope, rel=1e-9)
        assert result.parameters["g"].stderr == pytest.approx(line.stderr, rel=1e-6)
        assert result.parameters["g"].interval == pytest.approx((-line.slope - reach, -line.slope + reach), rel=1e-5)


def test_residual_bootstrap_of_a_power_law_is_students_t():
    from scipy.stats import linregress, t

    rng = np.random.default_rng(1)
    x = np.geomspace(1e6, 1e9, 9)
    points = Points(params=x, loss=8.0 * x**-0.1 * np.exp(0.02 * rng.standard_normal(9)))
    line = linregress(np.log(x), np.log(points.loss))
    result = fit(points, law="power:params", loss="least-squares", bootstrap=4000, level=0.95)
    low, high = result.parameters["g"].interval
    assert high - low == pytest.approx(2 * t.ppf(0.975, 7) * line.stderr, rel=0.3)  # the wild part is not normal


def test_profile_is_scipys_constrained_optimum(synthetic):
    """The root of the deviance at one value, against a general optimiser under the same constraint."""
    from scipy.optimize import minimize

    points = synthetic(noise=0.01)
    problem = pose(get_law("chinchilla"), points, LEAST_SQUARES, None)
    optimum = solve(problem)
    curve, split = profile(problem, points, optimum), quantities(problem)["params_exponent"]
    target = float(split.of(optimum.theta[None])[0]) + 0.02
    ours = float(curve.root(split, np.array([target]))[0])

    def rss(theta: np.ndarray) -> float:
        return float(np.sum((problem.y - problem.law.log_loss(theta[None], problem.x)[0]) ** 2)) / curve.rss

    held = {"type": "eq", "fun": lambda theta: 100 * (float(split.of(theta[None])[0]) - target)}
    found = minimize(rss, optimum.theta, constraints=held, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500})
    assert ours**2 * curve.scale / curve.rss == pytest.approx(found.fun - 1.0, rel=1e-3)


def test_an_end_that_the_points_do_not_give_is_open():
    """Without a floor in the truth, and little of a range, the floor's lower end is 0."""
    rng = np.random.default_rng(3)
    x = np.geomspace(1e7, 3e7, 10)
    points = Points(params=x, loss=30.0 * x**-0.2 * np.exp(0.02 * rng.standard_normal(10)))
    result = fit(points, law="power_floor:params", loss="least-squares", intervals="profile", level=0.95, bootstrap=0)
    low, high = result.parameters["E"].interval
    assert low == 0.0
    assert 0.0 < high < points.loss.mean()
    assert FitResult.from_json(result.to_json()).parameters["E"].interval == (low, high)


def test_profile_needs_a_likelihood(synthetic):
    with pytest.raises(FitInputError, match="profile intervals need a likelihood"):
        fit(synthetic(noise=0.01), intervals="profile")


def test_unknown_kinds_are_refused(synthetic):
    with pytest.raises(FitInputError, match="no intervals are called 'wald': valid: residual, percentile"):
        fit(synthetic(noise=0.01), intervals="wald")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_holds_its_estimate_and_the_truth(kind, synthetic):
    """At 99 % on an easy table; also the curve at a place, and a new run there."""
    loss = "least-squares" if kind == "profile" else "huber"
    points = synthetic(noise=0.005, seed=3)
    result = fit(points, intervals=kind, loss=loss, level=0.99, bootstrap=300, predict=[(3e9, 3e11)])
    assert result.intervals == kind
    for name, true in {"E": 1.7, "A": 400.0, "B": 1500.0, "alpha": 0.34, "beta": 0.36}.items():
        low, high = result.parameters[name].interval
        assert low < true < high
        assert low < result.parameters[name].value < high
    (run,) = result.predictions
    true = float(surface(np.array(3e9), np.array(3e11)))
    assert run.mean_interval[0] < true < run.mean_interval[1]
    assert run.interval[1] - run.interval[0] > run.mean_interval[1] - run.mean_interval[0]


def test_bca_of_a_mean_is_the_percentile_interval_where_nothing_is_skewed():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal(20_000)
    low, high = bca.bounds(0.0, draws, np.linspace(-1, 1, 21), 0.8)
    assert (low, high) == pytest.approx((-1.2816, 1.2816), abs=0.04)


def test_bca_moves_towards_the_long_tail():
    """Efron's exponential example: the variance of 20 normal values, known by chi2."""
    from scipy.stats import chi2

    rng = np.random.default_rng(2)
    held = {"bca": 0, "percentile": 0}
    for _ in range(400):
        x = rng.standard_normal(20)
        draws = x[rng.integers(0, 20, (1000, 20))].var(axis=1)
        left = np.array([np.delete(x, i).var() for i in range(20)])
        low, high = bca.bounds(float(x.var()), draws, left, 0.9)
        held["bca"] += low < 1.0 < high
        low, high = np.quantile(draws, [0.05, 0.95])
        held["percentile"] += low < 1.0 < high
    assert chi2.ppf(0.5, 19) < 19  # the estimate lies low more often than not
    assert held["bca"] > held["percentile"] + 10


def test_noise_of_runs_is_found_again():
    """Runs differ by 1 %, their checkpoints by 0.2 %: the simulated noise has both."""
    points = _runs(12, between=0.01, within=0.002)
    problem = pose(get_law("chinchilla"), points, HUBER, None)
    noise = simulate(problem, points, solve(problem), 2000, np.random.default_rng(0))
    assert noise is not None
    by_run = noise.rows.reshape(2000, 12, 6)
    assert 0.006 < np.median(by_run.mean(axis=2).std(axis=1)) < 0.018
    assert 0.0014 < np.median((by_run - by_run.mean(axis=2, keepdims=True)).std(axis=(1, 2))) < 0.003
    assert 0.006 < noise.between < 0.018


def test_noise_of_independent_rows_keeps_its_place():
    """Where large runs scatter a tenth of what small ones do, so do the resamples."""
    rng = np.random.default_rng(0)
    params, data = 10 ** rng.uniform(7, 10, 200), 10 ** rng.uniform(9, 12, 200)
    sigma = np.where(params > 10**8.5, 0.002, 0.02)
    points = Points(params=params, data=data, loss=surface(params, data) * np.exp(sigma * rng.standard_normal(200)))
    problem = pose(get_law("chinchilla"), points, HUBER, None)
    noise = simulate(problem, points, solve(problem), 500, np.random.default_rng(0))
    assert noise is not None
    ratio = noise.rows[:, params < 10**8.5].std() / noise.rows[:, params > 10**8.5].std()
    assert 6 < ratio < 14


def test_few_runs_get_wide_intervals():
    """Five runs that differ by 1 % are not sixty independent points."""
    points = _runs(5, between=0.01, within=0.002)
    by_run = fit(points, bootstrap=100).parameters["alpha"].stderr
    by_row = fit(replace(points, cluster=None), bootstrap=100).parameters["alpha"].stderr
    assert by_run > 2 * by_row


def test_draws_do_not_depend_on_the_order_of_rows():
    points = _runs(6, between=0.01, within=0.002)
    order = np.random.default_rng(0).permutation(points.n)
    ours, theirs = fit(points, bootstrap=20), fit(points.take(order), bootstrap=20)
    assert ours.draws == pytest.approx(theirs.draws, rel=0, abs=0)
    assert ours.luck == pytest.approx(theirs.luck, rel=0, abs=0)


def test_delta_and_bootstrap_agree_for_least_squares(synthetic):
    points = synthetic(noise=0.01)
    problem = pose(get_law("chinchilla"), points, LEAST_SQUARES, None)
    optimum = solve(problem)
    near = covariance(problem, points, optimum)
    draws = resample(problem, points, optimum, count=800, seed=0)
    for name, quantity in (quantities(problem) | {"mean": mean_at(problem, np.log([1e10, 1e12]))}).items():
        assert np.std(quantity.of(draws.theta)) == pytest.approx(near.stderr(quantity), rel=0.25), name


def test_a_bend_is_found_and_a_right_law_is_left_alone(synthetic):
    law = get_law("chinchilla")

    def chance(points: Points) -> float:
        problem = pose(law, points, HUBER, None)
        found = bend(problem, points, solve(problem))
        assert found is not None
        return found[0]

    right = [chance(synthetic(noise=0.005, seed=seed)) for seed in range(25)]
    assert np.mean(np.array(right) < 0.1) < 0.3
    points = synthetic(noise=0.005)
    bent = replace(points, loss=points.loss * (1 + 0.02 * np.log10(points.params / 10**8.5) ** 2))
    assert chance(bent) < 1e-6
    assert "lack-of-fit" in {warning.code for warning in fit(bent, bootstrap=0).warnings}


def _runs(count: int, *, between: float, within: float) -> Points:
    rng = np.random.default_rng(0)
    size, data = np.geomspace(1e7, 1e10, count), np.geomspace(1e9, 1e11, 6)
    luck = between * rng.standard_normal((count, 1)) + within * rng.standard_normal((count, 6))
    loss = surface(size[:, None], data[None]) * np.exp(luck)
    return Points(
        params=np.repeat(size, 6),
        data=np.tile(data, count),
        loss=loss.ravel(),
        cluster=np.repeat([f"run {i}" for i in range(count)], 6),
    )

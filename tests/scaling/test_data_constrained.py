"""The law of repeated data: published values, its limits, what it cannot be fitted to, and its true optimum."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from scaling import FitInputError, Points, fit
from scaling.laws import get_law
from scaling.losses import HUBER, LEAST_SQUARES
from scaling.objective import value
from scaling.problem import pose, solve
from scaling.solver import minimise

# Muennighoff et al. 2023 (arXiv 2305.16264): E, A, B, alpha, beta, Rd, Rn; the two exponents are one there.
PUBLISHED = {
    "E": math.exp(0.6254804),
    "A": math.exp(6.255414),
    "B": math.exp(7.3049974),
    "alpha": 0.3526596,
    "beta": 0.3526596,
    "Rd": 15.387756,
    "Rn": 5.309743,
}
LAW = get_law("data_constrained")


def by_hand(n: float, d: float, unique: float) -> float:
    """The formula with U, R and primes written out for one run, in plain numbers."""
    p = PUBLISHED
    u_d = min(unique, d)
    optimal = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / p["alpha"]) * u_d ** (p["beta"] / p["alpha"])
    u_n = min(n, optimal)
    d_worth = u_d + u_d * p["Rd"] * (1 - math.exp(-(d / u_d - 1) / p["Rd"]))
    n_worth = u_n + u_n * p["Rn"] * (1 - math.exp(-(n / u_n - 1) / p["Rn"]))
    return p["E"] + p["A"] * n_worth ** -p["alpha"] + p["B"] * d_worth ** -p["beta"]


def published_table(noise: float = 0.0, seed: int = 0) -> Points:
    """Sizes, distinct tokens and epochs as in that paper's range, with losses of the published law."""
    sizes, distinct, epochs = np.geomspace(7e6, 9e9, 7), np.array([1e8, 1e9, 1e10]), np.array([1.0, 4, 16, 60])
    n, u, e = (axis.ravel() for axis in np.meshgrid(sizes, distinct, epochs))
    x = np.log(np.stack([n, u * e, u]))
    loss = LAW.predict(np.array([list(PUBLISHED.values())]), x)[0]
    luck = np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss)))
    return Points(params=n, data=u * e, unique=u, loss=loss * luck, flops=6 * n * u * e)


@pytest.mark.parametrize(
    ("n", "d", "unique"), [(2.8e9, 5.5e10, 5.5e10), (2.8e9, 5.5e10, 4e9), (8.7e9, 1.78e11, 2.5e10), (1e10, 1e9, 1e8)]
)
def test_predicts_as_the_formula_by_hand(n, d, unique):
    x = np.log([[n], [d], [unique]])
    assert LAW.predict(np.array([list(PUBLISHED.values())]), x)[0, 0] == pytest.approx(by_hand(n, d, unique), rel=1e-12)


def test_four_epochs_cost_little_and_sixty_much():
    """The paper's summary: up to four epochs are almost as good as new data, and returns then fall off."""
    n, d = 2e9, 4e10
    new, four, sixty = (by_hand(n, d, d / epochs) for epochs in (1, 4, 60))
    assert 0 < four / new - 1 < 0.015
    assert sixty / new - 1 > 0.1


def test_recovers_the_published_values():
    result = fit(published_table(), law="data_constrained", bootstrap=0)
    assert result.status == "converged"
    assert {name: each.value for name, each in result.parameters.items()} == pytest.approx(PUBLISHED, rel=1e-5)
    for n, d, unique in ((2.8e9, 5.5e10, 4e9), (1e9, 1e12, 1e12)):
        assert result.predict(n, d, unique=unique) == pytest.approx(by_hand(n, d, unique), rel=1e-7)


def test_equals_chinchilla_on_fresh_data_at_sizes_up_to_the_optimum():
    natural = np.array([list(PUBLISHED.values())])
    d = np.geomspace(1e9, 1e12, 9)
    for size in (0.02, 0.05):  # of data; the optimum is near 0.051
        x = np.log(np.stack([size * d, d, 10 * d]))
        assert LAW.predict(natural, x) == pytest.approx(get_law("chinchilla").predict(natural[:, :5], x[:2]), rel=1e-12)


def test_equals_chinchilla_everywhere_where_excess_is_worth_as_much():
    natural = np.array([[*list(PUBLISHED.values())[:5], 1e9, 1e9]])
    x = np.log([[1e8, 1e10, 1e11], [1e10, 1e10, 1e11], [1e8, 1e9, 2e11]])
    assert LAW.predict(natural, x) == pytest.approx(get_law("chinchilla").predict(natural[:, :5], x[:2]), rel=1e-6)


def test_nothing_repeated_is_refused_with_what_to_do():
    points = published_table()
    with pytest.raises(FitInputError, match=r"nothing was repeated .* fit chinchilla"):
        fit(replace(points, unique=points.need("data")), law="data_constrained", bootstrap=0)
    with pytest.raises(FitInputError, match="needs unique"):
        fit(replace(points, unique=None), law="data_constrained", bootstrap=0)


def test_a_single_dataset_is_enough():
    points = published_table(noise=0.002, seed=1)
    points = points.take(points.need("unique") == 1e9)
    result = fit(points, law="data_constrained", bootstrap=60, predict=[{"params": 1e9, "data": 3e10, "unique": 1e9}])
    low, high = result.predictions[0].interval
    assert low < by_hand(1e9, 3e10, 1e9) < high
    assert result.predictions[0].unique == 1e9
    assert not {"few-unique", "few-data"} & {warning.code for warning in result.warnings}


def test_no_large_model_leaves_rn_open_and_says_so():
    points = published_table(noise=0.002, seed=2)
    n, u = points.need("params"), points.need("unique")
    result = fit(points.take(n < 0.03 * u), law="data_constrained", bootstrap=0)
    assert "Rn" in {w.code: w.message for w in result.warnings}["unused-parameter"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loss", [HUBER, LEAST_SQUARES])
def test_no_random_start_and_no_other_optimiser_does_better(seed, loss):
    problem = pose(LAW, published_table(noise=0.02, seed=seed), loss, None)
    best, rng = solve(problem), np.random.default_rng(seed)
    assert best.converged
    low, high = LAW.bounds
    starts = rng.uniform(np.maximum(low, -5), np.minimum(high, 5), (80, 7))
    found = minimise(LAW, starts, problem.x, problem.y, problem.w, loss=loss)
    assert best.objective <= found.objective.min() * (1 + 1e-9)

    def objective(theta: np.ndarray) -> float:
        inside = np.clip(theta, low, high)[None]
        return 1e3 * value(LAW, inside, problem.x, problem.y, problem.w, loss)[0]

    start = best.theta + 0.05 * rng.standard_normal(7)
    search = minimize(objective, start, method="Nelder-Mead", options={"maxfev": 3000, "fatol": 1e-15})
    assert search.fun / 1e3 >= best.objective * (1 - 1e-9)

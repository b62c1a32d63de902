"""The law with one break: its limits, what it refuses, and its true optimum on tables with and without a break."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import differential_evolution, minimize

from scaling import FitInputError, Points, fit
from scaling.laws import get_law
from scaling.losses import HUBER, LEAST_SQUARES
from scaling.objective import value
from scaling.problem import pose, solve

TRUTH = {"E": 0.5, "K": 40.0, "c0": 0.05, "c1": 0.3, "d": 1e6, "f": 0.4}
LAW = get_law("broken:steps")


def table(n: int = 24, noise: float = 0.0, seed: int = 0) -> Points:
    """Losses along steps with a break at a million."""
    x = np.geomspace(1e4, 1e8, n)
    loss = LAW.predict(np.array([list(TRUTH.values())]), np.log(x)[None])[0]
    return Points(steps=x, loss=loss * np.exp(noise * np.random.default_rng(seed).standard_normal(n)))


def test_predicts_as_the_formula():
    x, t = np.geomspace(1e3, 1e9, 7), TRUTH
    by_hand = t["E"] + t["K"] * x ** -t["c0"] * (1 + (x / t["d"]) ** (1 / t["f"])) ** (-t["c1"] * t["f"])
    assert LAW.predict(np.array([list(t.values())]), np.log(x)[None])[0] == pytest.approx(by_hand, rel=1e-12)


def test_slopes_on_both_sides_of_the_break():
    natural, x = np.array([[1e-12, *list(TRUTH.values())[1:]]]), np.log([[1e1, 1e2, 1e11, 1e12]])
    logs = np.log(LAW.predict(natural, x)[0])
    slopes = np.diff(logs)[[0, 2]] / np.log(10)
    assert slopes == pytest.approx([-0.05, -0.35], abs=1e-6)


def test_recovers_break_and_slopes_from_noisy_losses():
    result = fit(table(40, noise=0.001, seed=2), law="broken:steps", bootstrap=150, level=0.99)
    for name, true in TRUTH.items():
        low, high = result.parameters[name].interval
        assert low <= true <= high, name


def test_too_few_places_for_a_break():
    with pytest.raises(
        FitInputError, match=r"5 distinct steps cannot show a break: .* at least 6; fit power_floor:steps"
    ):
        fit(Points(steps=[1, 2, 3, 4, 5, 5.0], loss=[6, 5, 4, 3, 2.5, 2.4]), law="broken:steps", bootstrap=0)


def test_never_worse_than_one_slope():
    x = np.geomspace(1e4, 1e8, 15)
    for seed in range(3):
        luck = np.exp(0.01 * np.random.default_rng(seed).standard_normal(15))
        points = Points(steps=x, loss=(0.5 + 9 * x**-0.2) * luck)
        one, two = (fit(points, law=f"{law}:steps", bootstrap=0) for law in ("power_floor", "broken"))
        assert two.objective <= one.objective * (1 + 1e-9)
        assert 1e4 < two.parameters["d"].value < 1e8


@pytest.mark.parametrize(("seed", "loss"), [(0, HUBER), (1, LEAST_SQUARES), (2, HUBER)])
def test_differential_evolution_finds_nothing_lower(seed, loss):
    problem = pose(LAW, table(16, noise=0.01, seed=seed), loss, None)
    best = solve(problem)
    low, high = LAW.limits(problem.x)
    bounds = list(zip(np.maximum(low, -8), np.minimum(high, 4), strict=True))

    def objective(theta: np.ndarray) -> np.ndarray:
        batch = np.clip(np.atleast_2d(theta.T), low, high)
        values = 1e3 * value(LAW, batch, problem.x, problem.y, problem.w, loss)
        return values if theta.ndim > 1 else values[0]

    found = differential_evolution(
        objective,
        bounds,
        seed=seed,
        popsize=25,
        maxiter=250,
        tol=1e-12,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    polished = minimize(objective, found.x, method="Nelder-Mead", options={"maxfev": 4000, "fatol": 1e-15})
    assert best.objective <= min(found.fun, polished.fun) / 1e3 * (1 + 1e-9)

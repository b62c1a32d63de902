"""Losses: published optima of each, agreement with scipy, known standard errors, invariances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from scaling import FitInputError, Points, fit
from scaling.laws import get_law
from scaling.losses import make
from scaling.objective import value
from scaling.problem import pose, solve
from tests.scaling.known_surface import surface

# a of the 240 rows under each loss
EXPONENTS = (
    ({"loss": "lad"}, 0.5126),
    ({}, 0.5139),
    ({"delta": 1e-2}, 0.5184),
    ({"loss": "least-squares"}, 0.5298),
    ({"loss": "linear"}, 0.5446),
)

# A, B, E, alpha, beta, a, residual sum of squares; by variable projection with non-negative least squares
LINEAR = {
    "chinchilla in_fit": (
        ("chinchilla_epoch", {"in_fit": "True"}),
        (567.81, 7581.9, 1.88281, 0.35762, 0.42762, 0.5446, 0.0832038),
    ),
    "chinchilla all": (
        ("chinchilla_epoch", {}),
        (711.83, 1.0136e6, 2.01057, 0.36844, 0.66140, 0.6422, 0.843774),
    ),
    "llama3 all": (("isoflops_llama3", {}), (59.141, 155.11, 0.60467, 0.31001, 0.31364, 0.5029, 0.00201972)),
    "llama3 inliers": (
        ("isoflops_llama3", {"outlier": "False"}),
        (91.112, 236.55, 0.62267, 0.33623, 0.33537, 0.4994, 0.00110663),
    ),
    "misfitting all": (
        ("isoflops_misfitting", {}),
        (27943, 7.1566e5, 2.67161, 0.59919, 0.66346, 0.5255, 0.915037),
    ),
    "misfitting inliers": (
        ("isoflops_misfitting", {"outlier": "False"}),
        (66448, 1.68e6, 2.70071, 0.64267, 0.70834, 0.5243, 0.0503584),
    ),
}


@pytest.mark.parametrize(("options", "expected"), EXPONENTS)
def test_exponent_by_loss(options, expected, published):
    result = fit(published("chinchilla_epoch", in_fit="True"), bootstrap=0, **options)
    assert result.compute_optimal["params_exponent"].value == pytest.approx(expected, abs=6e-5)
    assert result.status == "converged"


def test_least_absolute_deviation_is_the_published_estimate(published):
    """Besiroglu et al. 2024 print A 482.01, B 2085.43, E 1.8172, alpha 0.3478, beta 0.3658."""
    result = fit(published("chinchilla_epoch", in_fit="True"), bootstrap=0, loss="lad")
    got = {name: each.value for name, each in result.parameters.items()}
    assert got["A"] == pytest.approx(482.00, rel=3e-5)
    assert got["B"] == pytest.approx(2085.39, rel=3e-5)
    assert [got["E"], got["alpha"], got["beta"]] == pytest.approx([1.81686, 0.34781, 0.36585], abs=6e-6)
    assert result.loss_kind.startswith("absolute deviation")


@pytest.mark.parametrize("name", LINEAR)
def test_least_squares_on_the_loss_itself(name, published):
    (table, equal), (a, b, e, alpha, beta, split, rss) = LINEAR[name]
    result = fit(published(table, **equal), bootstrap=0, loss="linear")
    assert 2.0 * result.objective == pytest.approx(rss, rel=3e-6)
    got = {key: each.value for key, each in result.parameters.items()}
    assert [got["A"], got["B"]] == pytest.approx([a, b], rel=1e-4)
    assert [got["E"], got["alpha"], got["beta"]] == pytest.approx([e, alpha, beta], abs=6e-6)
    assert result.compute_optimal["params_exponent"].value == pytest.approx(split, abs=6e-5)


def test_absolute_deviations_pass_through_as_many_points_as_parameters(synthetic):
    points = synthetic(noise=0.01)
    result = fit(points, bootstrap=0, loss="lad")
    residual = np.abs(np.log(points.loss) - np.log(result.predict(points.params, points.data)))
    assert np.count_nonzero(residual < 1e-6) == 5
    assert result.objective == pytest.approx(residual.sum(), rel=1e-5)


@pytest.mark.parametrize(("name", "asymmetry"), [("lad", 1.0), ("linear", 1.0), ("huber", 10.0)])
def test_no_general_optimiser_does_better(name, asymmetry, synthetic):
    loss = make(name, 1e-3, asymmetry)
    problem = pose(get_law("chinchilla"), synthetic(noise=0.02), loss, None)
    best = solve(problem)

    def objective(theta: np.ndarray) -> float:
        return float(value(problem.law, theta[None], problem.x, problem.y, problem.w, loss)[0]) / best.objective

    rng = np.random.default_rng(0)
    for _ in range(3):
        start = best.theta + 0.02 * rng.standard_normal(5)
        found = minimize(objective, start, method="Nelder-Mead", options={"maxfev": 3000, "fatol": 1e-14})
        assert found.fun >= 1.0 - 1e-7


def test_asymmetry_moves_the_curve_to_the_lower_edge(synthetic):
    points = synthetic(noise=0.01)
    below = []
    for asymmetry in (0.1, 1.0, 10.0):
        result = fit(points, bootstrap=0, asymmetry=asymmetry)
        below.append(float(np.mean(points.loss < result.predict(points.params, points.data))))
    assert below[0] > 0.75 > below[1] > 0.25 > below[2]


@pytest.mark.parametrize("loss", ["huber", "least-squares", "lad", "linear"])
def test_rows_twice_with_half_their_weight_change_nothing(loss, example):
    points = example("rpj")
    twice = points.take(np.repeat(np.arange(points.n), 2))
    halved = replace(twice, weight=np.full(twice.n, 0.5))
    base, doubled = fit(points, bootstrap=0, loss=loss), fit(halved, bootstrap=0, loss=loss)
    assert doubled.objective == pytest.approx(base.objective, rel=1e-7)
    assert doubled.values == pytest.approx(base.values, rel=1e-5)


@settings(max_examples=6, deadline=None)
@given(
    loss=st.sampled_from(["huber", "least-squares", "lad", "linear"]),
    unit=st.floats(-3, 3),
    seed=st.integers(0, 99),
)
def test_row_order_and_units_do_not_matter(loss, unit, seed):
    points = _noisy()
    order = np.random.default_rng(seed).permutation(points.n)
    other = Points(
        params=points.params[order] * 10**unit,
        data=points.data[order] / 10**unit,
        loss=points.loss[order] * 10**unit,
        stderr=points.stderr[order] * 10**unit,
    )
    base, changed = fit(points, bootstrap=0, loss=loss), fit(other, bootstrap=0, loss=loss)
    factor = 10 ** (2 * unit) if loss == "linear" else 1.0
    assert changed.objective == pytest.approx(factor * base.objective, rel=1e-6)
    for name in ("alpha", "beta"):
        assert changed.parameters[name].value == pytest.approx(base.parameters[name].value, rel=1e-4)


def test_equal_standard_errors_change_nothing(synthetic):
    points = synthetic(noise=0.01)
    known = replace(points, stderr=0.02 * points.loss)
    assert fit(known, bootstrap=0).values == pytest.approx(fit(points, bootstrap=0).values, rel=1e-6)


def test_rows_that_are_known_to_be_noisy_count_less():
    """Half of the rows scatter ten times as much; knowing which ones halves the error of alpha at least."""
    errors = {"known": [], "unknown": []}
    for seed in range(8):
        points = _noisy(seed)
        for name, each in (("known", points), ("unknown", replace(points, stderr=None))):
            errors[name].append(fit(each, bootstrap=0, loss="least-squares").parameters["alpha"].value - 0.34)
    assert np.std(errors["known"]) < 0.5 * np.std(errors["unknown"])


def test_intervals_use_known_standard_errors():
    points = _noisy()
    known, unknown = fit(points, bootstrap=100), fit(replace(points, stderr=None), bootstrap=100)
    assert known.parameters["alpha"].stderr < 0.7 * unknown.parameters["alpha"].stderr
    assert "standard errors" in known.loss_kind


def _noisy(seed: int = 0) -> Points:
    rng = np.random.default_rng(seed)
    params, data = 10 ** rng.uniform(7, 10, 40), 10 ** rng.uniform(9, 12, 40)
    sigma = np.where(np.arange(40) % 2, 0.003, 0.03)
    loss = surface(params, data) * np.exp(sigma * rng.standard_normal(40))
    return Points(params=params, data=data, loss=loss, stderr=sigma * loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "l2"}, "no loss is called 'l2': valid: huber, least-squares, lad, linear"),
        ({"delta": -1.0}, "delta is -1"),
        ({"asymmetry": 0.0}, "asymmetry is 0"),
        ({"asymmetry": float("inf")}, "asymmetry is inf"),
    ],
)
def test_bad_losses_are_refused(options, message, synthetic):
    with pytest.raises(FitInputError, match=message):
        fit(synthetic(noise=0.01), bootstrap=0, **options)

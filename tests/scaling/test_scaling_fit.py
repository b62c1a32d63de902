"""The fit itself: known surfaces, invariances, agreement with a general optimiser, results and errors."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from scaling import FitInputError, FitResult, Points, Provenance, fit
from scaling.laws import LAWS, get_law
from scaling.losses import HUBER, LEAST_SQUARES, Loss
from scaling.objective import expand, value
from scaling.problem import pose, solve
from tests.scaling.known_surface import TRUTH, surface


def test_recovers_a_known_surface_exactly(synthetic):
    result = fit(synthetic(), bootstrap=0)
    assert result.status == "converged"
    for name, true in TRUTH.items():
        assert result.parameters[name].value == pytest.approx(true, rel=1e-6)


def test_recovers_a_noisy_surface_within_its_intervals(synthetic):
    result = fit(synthetic(noise=0.005, seed=3), bootstrap=400, level=0.99)
    for name, true in TRUTH.items():
        low, high = result.parameters[name].interval
        assert low < true < high
    assert not [w for w in result.warnings if w.code in ("starts-disagree", "at-bound", "ill-conditioned")]


@pytest.mark.parametrize("axis", ["params", "data", "flops"])
def test_power_floor_recovers_each_axis(axis):
    x = np.geomspace(1e6, 1e9, 12)
    other = np.full(12, 1e8)
    columns = {"params": x if axis == "params" else other, "data": x if axis == "data" else other}
    if axis == "flops":
        columns["data"] = x
    drive = 6 * other * x if axis == "flops" else x
    points = Points(**columns, loss=0.4 + 30 * drive**-0.25, flops=6 * columns["params"] * columns["data"])
    result = fit(points, law=f"power_floor:{axis}", bootstrap=0)
    got = [result.parameters[name].value for name in ("E", "K", "g")]
    assert got == pytest.approx([0.4, 30, 0.25], rel=1e-6)
    assert result.predict(points.params, points.data) == pytest.approx(points.loss, rel=1e-9)
    assert result.compute_optimal == {}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    "loss",
    [HUBER, Loss(delta=1e-2), LEAST_SQUARES, Loss(name="linear", delta=np.inf), Loss(delta=1e-2, asymmetry=10.0)],
    ids=lambda loss: loss.text,
)
def test_gradient_and_hessian_against_finite_differences(law, loss, synthetic):
    problem = pose(get_law(law), synthetic(noise=0.02), loss, 6.0)
    rng = np.random.default_rng(1)
    p = len(problem.law.parameters)
    theta = solve(problem).theta + 0.05 * rng.standard_normal(p)
    at = expand(problem.law, theta[None], problem.x, problem.y, problem.w, loss)
    step = 1e-6
    for i in range(p):
        shifted = theta + step * np.array([[-1.0], [1.0]]) * np.eye(p)[i]
        values = value(problem.law, shifted, problem.x, problem.y, problem.w, loss)
        assert at.gradient[0, i] == pytest.approx((values[1] - values[0]) / (2 * step), rel=2e-4, abs=1e-7)
        gradients = expand(problem.law, shifted, problem.x, problem.y, problem.w, loss).gradient
        column = (gradients[1] - gradients[0]) / (2 * step)
        assert at.newton[0, i] == pytest.approx(column, rel=2e-3, abs=2e-4 * np.abs(at.newton).max())


def test_huber_is_quadratic_within_delta_and_linear_beyond():
    assert Loss(delta=1.0).of(np.array([0.5, -0.5, 3.0])) == pytest.approx([0.125, 0.125, 2.5])
    assert LEAST_SQUARES.of(np.array([3.0])) == pytest.approx([4.5])


def test_no_general_optimiser_finds_a_lower_objective(example):
    points = example("rw_original")
    problem = pose(get_law("chinchilla"), points, HUBER, None)
    best = solve(problem)
    rng = np.random.default_rng(0)

    def objective(theta):
        return 1e3 * value(problem.law, theta[None], problem.x, problem.y, problem.w, HUBER)[0]

    for _ in range(5):
        start = best.theta + 0.02 * rng.standard_normal(5)
        found = minimize(objective, start, method="Nelder-Mead", options={"maxfev": 4000, "fatol": 1e-15})
        assert found.fun / 1e3 >= best.objective * (1 - 1e-12)
    assert best.agreeing == 1.0


def test_a_deep_offset_start_reaches_the_same_optimum(example):
    """Scaling weights scales the objective and must not move the optimum: nothing stops early on its size."""
    points = example("c4_original")
    base = fit(points, bootstrap=0)
    for factor in (1e-3, 1e3):
        scaled = fit(replace(points, weight=np.full(points.n, factor)), bootstrap=0)
        assert scaled.objective == pytest.approx(factor * base.objective, rel=1e-9)
        assert scaled.values == pytest.approx(base.values, rel=1e-6)


def _noisy() -> Points:
    rng = np.random.default_rng(5)
    params, data = 10 ** rng.uniform(7, 10, 40), 10 ** rng.uniform(9, 12, 40)
    return Points(params=params, data=data, loss=surface(params, data) * np.exp(0.01 * rng.standard_normal(40)))


def test_result_survives_json(synthetic):
    points = synthetic(noise=0.01)
    given_provenance = Provenance(sources=("a.csv",), n_rows=50, dropped=(("not ema", 2),), columns={"loss": "val"})
    result = fit(points, bootstrap=50, predict=[(1e11, 1e13)], provenance=given_provenance)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    again = FitResult.from_json(document)
    assert again == result
    assert again.predict_interval(1e11, 1e13, 0.5) == result.predict_interval(1e11, 1e13, 0.5)
    fixed = "schema law n_points objective parameters compute_optimal predictions warnings provenance"
    assert set(document) >= set(fixed.split())
    without = fit(points, bootstrap=0, predict=[(1e11, 1e13)])
    plain = json.loads(json.dumps(without.to_json(), allow_nan=False))
    assert plain["parameters"]["E"]["stderr"] is None
    assert np.isnan(FitResult.from_json(plain).parameters["E"].stderr)


def test_from_json_refuses_another_schema(synthetic):
    document = fit(synthetic(), bootstrap=0).to_json()
    with pytest.raises(FitInputError, match="schema 2"):
        FitResult.from_json({**document, "schema": 2})
    del document["law"]
    with pytest.raises(FitInputError, match="law"):
        FitResult.from_json(document)


def test_same_seed_same_draws_and_wider_levels_are_wider(synthetic):
    points = synthetic(noise=0.01)
    one, two = fit(points, bootstrap=100, seed=4), fit(points, bootstrap=100, seed=4)
    assert one.parameters == two.parameters
    narrow, wide = one.predict_interval(1e11, 1e12, 0.5), one.predict_interval(1e11, 1e12, 0.95)
    assert wide[0] < narrow[0] < one.predict(1e11, 1e12) < narrow[1] < wide[1]


def test_frontier_lies_on_the_budget_and_is_the_best_split(synthetic):
    result = fit(synthetic(noise=0.01), bootstrap=0)
    budgets = np.array([1e20, 1e24])
    params, data, loss = result.frontier(budgets)
    assert 6 * params * data == pytest.approx(budgets, rel=1e-12)
    assert result.predict(params, data) == pytest.approx(loss, rel=1e-12)
    for shift in (0.9, 1.1):
        assert (result.predict(params * shift, data / shift) > loss).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": [1.0, -2.0, 1, 1, 1, 1]}, r"loss\[1\] is -2"),
        ({"loss": [1.0, 0.0, 1, 1, 1, 1]}, "positive"),
        ({"params": [np.nan, 1, 1, 1, 1, 1]}, r"params\[0\] is nan"),
        ({"data": [1.0, np.inf, 1, 1, 1, 1]}, "finite"),
        ({"data": [1.0, 2.0]}, "data has 2 values"),
        ({"weight": np.zeros(6)}, "weight"),
        ({"loss": []}, "no points"),
    ],
)
def test_points_refuse_bad_columns(change, words):
    columns = {"params": np.arange(1.0, 7), "data": np.arange(1.0, 7), "loss": np.ones(6)}
    with pytest.raises(FitInputError, match=words):
        Points(**{**columns, **change})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"law": "chincilla"}, "did you mean 'chinchilla'"),
        ({"law": "power_floor"}, "needs its axis"),
        ({"law": "power_floor:flops"}, "flops"),
        ({"level": 80}, "level is 80"),
        ({"bootstrap": -1}, "bootstrap is -1"),
        ({"loss": "l1"}, "no loss is called 'l1'"),
        ({"delta": 0}, "delta is 0"),
        ({"predict": [(1e9, -1)]}, "must be positive"),
    ],
)
def test_fit_refuses_bad_options(options, words):
    with pytest.raises(FitInputError, match=words):
        fit(_noisy(), **options)


def test_fit_refuses_fewer_points_than_parameters():
    with pytest.raises(FitInputError, match="4 points cannot determine the 5 parameters"):
        fit(_noisy().take(np.arange(4)))


def test_fit_refuses_a_single_size():
    points = _noisy()
    with pytest.raises(FitInputError, match="every point has params"):
        fit(Points(params=np.full(points.n, 1e9), data=points.data, loss=points.loss))


def test_import_is_light():
    """The statistics are used beside any trainer: no torch, no charts, and quick to import."""
    heavy = ("torch", "altair", "polars", "pandas", "scipy", "prx_scale")
    code = f"import sys, scaling; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

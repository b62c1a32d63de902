"""Every law of the registry: known surfaces, derivatives, invariances, and how the laws relate to each other."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares, minimize

from scaling import FitResult, Points, fit
from scaling.laws import LAWS, get_law
from scaling.laws.base import Frame
from scaling.losses import HUBER
from scaling.objective import value
from scaling.problem import pose, solve
from scaling.solver import minimise

TRUTHS = {
    "chinchilla": {"E": 1.7, "A": 400.0, "B": 1500.0, "alpha": 0.34, "beta": 0.36},
    "tied": {"E": 1.7, "A": 400.0, "B": 900.0, "alpha": 0.34},
    "coupled": {"E": 1.7, "A": 3e4, "B": 2e5, "p": 0.55, "q": 0.6, "k": 0.6},
    "kaplan": {"Nc": 6.4e13, "Dc": 1.8e13, "aN": 0.076, "aD": 0.103},
    "overtraining": {"E": 1.7, "u": 500.0, "v": 1200.0, "h": 0.17},
    "data_constrained": {"E": 1.7, "A": 400.0, "B": 1500.0, "alpha": 0.34, "beta": 0.36, "Rd": 15.0, "Rn": 5.0},
    "broken": {"E": 1.7, "K": 30.0, "c0": 0.08, "c1": 0.25, "f": 0.5},
    "power_floor": {"E": 1.7, "K": 30.0, "g": 0.2},
    "power": {"K": 30.0, "g": 0.12},
}
BREAKS = {"params": 2e8, "data": 5e9, "flops": 1e19, "steps": 5e3}
# Laws of one axis are one formula: for what takes long, one axis of each stands for the others.
DIFFERENT = [law for law in LAWS if law.partition(":")[2] in ("", "data")]
TWO_AXES = [name for name in LAWS if name.split(":")[0] not in ("power", "power_floor", "broken")]
AHEAD = {"params": 1e11, "data": 1e12, "steps": 1e6}
TRAIN_SETS = ("c4_original", "rpj", "rw_original")


def truth(law: str) -> dict[str, float]:
    """Parameters of the known surface of a law."""
    family, _, axis = law.partition(":")
    if family == "broken":
        *others, f = TRUTHS[family].items()
        return dict([*others, ("d", BREAKS[axis]), f])
    return TRUTHS[family]


def on_surface(law: str, *, noise: float = 0.0, seed: int = 0, per_axis: int = 7) -> Points:
    """A grid of sizes and amounts of data whose losses follow a law, with C = 6 N D."""
    per_axis = max(per_axis, 10) if law.startswith("broken") else per_axis
    sizes, amounts = np.geomspace(1e7, 1e10, per_axis), np.geomspace(1e8, 1e12, per_axis)
    params, data = (axis.ravel() for axis in np.meshgrid(sizes, amounts))
    columns = {"params": params, "data": data, "flops": 6 * params * data, "steps": data / 2**20}
    columns["unique"] = np.minimum(data, 1e10)
    x = np.log(np.stack([columns[axis] for axis in get_law(law).axes]))
    loss = get_law(law).predict(np.array([list(truth(law).values())]), x)[0]
    luck = np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss)))
    return Points(**columns, loss=loss * luck)


@pytest.mark.parametrize("law", LAWS)
def test_recovers_its_own_surface_exactly(law):
    points = on_surface(law)
    result = fit(points, law=law, bootstrap=0)
    assert result.status == "converged"
    assert {name: each.value for name, each in result.parameters.items()} == pytest.approx(truth(law), rel=1e-5)
    axes = {axis: getattr(points, axis) for axis in get_law(law).axes}
    assert result.predict(**axes) == pytest.approx(points.loss, rel=1e-9)


@pytest.mark.parametrize("law", DIFFERENT)
def test_intervals_hold_the_truth(law):
    result = fit(on_surface(law, noise=0.003, seed=2), law=law, bootstrap=300, level=0.999)
    assert result.status == "converged"
    assert result.starts_agreeing >= 0.5
    for name, true in truth(law).items():
        low, high = result.parameters[name].interval
        assert low < true < high, name


@pytest.mark.parametrize("law", LAWS)
def test_derivatives_against_finite_differences(law):
    problem = pose(get_law(law), on_surface(law, noise=0.02, per_axis=6), HUBER, 6.0)
    law_, x, rng = problem.law, problem.x, np.random.default_rng(3)
    theta = solve(problem).theta + 0.05 * rng.standard_normal((3, len(problem.law.parameters)))
    at, weights = law_.linearise(theta, x), rng.standard_normal((3, x.shape[1]))
    bend, step = at.curvature(weights), 1e-5
    assert at.value == pytest.approx(law_.log_loss(theta, x), rel=1e-14)
    for i in range(theta.shape[1]):
        shift = step * np.eye(theta.shape[1])[i]
        slope = (law_.log_loss(theta + shift, x) - law_.log_loss(theta - shift, x)) / (2 * step)
        assert at.jacobian[:, i] == pytest.approx(slope, rel=1e-6, abs=1e-8)
        up, down = law_.linearise(theta + shift, x).jacobian, law_.linearise(theta - shift, x).jacobian
        column = np.einsum("bpn,bn->bp", up - down, weights) / (2 * step)
        assert bend[:, i] == pytest.approx(column, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("count", [1, 8, 48])
@pytest.mark.parametrize("law", LAWS)
def test_starts_are_distinct(law, count):
    """Two copies of one start would agree on anything."""
    problem = pose(get_law(law), on_surface(law, noise=0.02), HUBER, None)
    starts = problem.law.starts(problem.x, problem.y, problem.w, count)
    assert min(count, 8) <= len(starts) <= count
    assert len(np.unique(starts, axis=0)) == len(starts)


@pytest.mark.parametrize("law", LAWS)
def test_natural_parameters_and_back(law):
    chosen, rng = get_law(law), np.random.default_rng(4)
    frame = Frame(centre=rng.uniform(15, 25, len(chosen.axes)), log_scale=0.9)
    theta = rng.uniform(-0.5, -0.1, (5, len(chosen.parameters)))
    exponents = [i for i, name in enumerate(chosen.parameters) if name not in (*chosen.coefficients, chosen.floor)]
    theta[:, exponents] *= -1
    assert chosen.to_internal(chosen.to_natural(theta, frame), frame) == pytest.approx(theta, rel=1e-9)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("law", DIFFERENT)
def test_row_order_does_not_matter(law, seed):
    points = on_surface(law, noise=0.01)
    order = np.random.default_rng(seed).permutation(points.n)
    ours, theirs = fit(points, law=law, bootstrap=3), fit(points.take(order), law=law, bootstrap=3)
    assert ours.parameters == theirs.parameters
    assert ours.draws == pytest.approx(theirs.draws, rel=0, abs=0)


@settings(max_examples=6, deadline=None)
@given(n=st.floats(-6, 3), d=st.floats(-6, 3), c=st.floats(-6, 3), scale=st.floats(-2, 2))
@pytest.mark.parametrize("law", DIFFERENT)
def test_units_do_not_matter(law, n, d, c, scale):
    points = on_surface(law, noise=0.01)
    columns = {"params": points.params * 10**n, "data": points.data * 10**d, "loss": points.loss * 10**scale}
    base = fit(points, law=law, bootstrap=0)
    columns["unique"] = points.unique * 10**d
    changed = fit(Points(**columns, flops=points.flops * 10**c, steps=points.steps * 10**c), law=law, bootstrap=0)
    assert changed.objective == pytest.approx(base.objective, rel=1e-8)
    for name in {*get_law(law).exponents.values(), *(["k"] if law == "coupled" else [])}:
        assert changed.parameters[name].value == pytest.approx(base.parameters[name].value, rel=1e-4)
    steps = {"steps": 1e5} if "steps" in get_law(law).axes else {}
    moved = {name: value * 10**c for name, value in steps.items()}
    there = changed.predict(1e9 * 10**n, 1e11 * 10**d, **moved)
    assert there == pytest.approx(base.predict(1e9, 1e11, **steps) * 10**scale, rel=1e-6)


@pytest.mark.parametrize("law", LAWS)
def test_survives_json_with_its_predictions(law):
    result = fit(on_surface(law, noise=0.01), law=law, bootstrap=20, predict=[AHEAD])
    again = FitResult.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False)))
    assert again == result
    assert again.predict_interval(**AHEAD) == result.predict_interval(**AHEAD)


@pytest.mark.parametrize("law", TWO_AXES)
def test_frontier_is_the_best_split_of_a_budget(law):
    result = fit(on_surface(law, noise=0.005), law=law, bootstrap=0)
    budgets = np.geomspace(1e19, 1e23, 5)
    params, data, loss = result.frontier(budgets)
    assert 6 * params * data == pytest.approx(budgets, rel=1e-10)
    assert result.predict(params, data) == pytest.approx(loss, rel=1e-10)
    for shift in (0.95, 1.05):
        assert (result.predict(params * shift, data / shift) > loss).all()
    for name, grown in (("params_exponent", params), ("data_exponent", data)):
        slopes = np.diff(np.log(grown)) / np.diff(np.log(budgets))
        assert slopes == pytest.approx(result.compute_optimal[name].value, rel=1e-9)


@pytest.mark.parametrize("law", ["tied", "overtraining"])
def test_one_exponent_splits_compute_evenly(law, example):
    exponents = fit(example("rpj"), law=law, bootstrap=50).compute_optimal
    assert {name: each.value for name, each in exponents.items()} == {"params_exponent": 0.5, "data_exponent": 0.5}
    assert all(each.interval == (0.5, 0.5) for each in exponents.values())


@pytest.mark.parametrize("train_set", TRAIN_SETS)
def test_overtraining_is_tied_where_compute_is_six_n_d(train_set, example):
    points = example(train_set)
    points = replace(points, flops=6 * points.params * points.data)
    tied, other = fit(points, law="tied", bootstrap=0), fit(points, law="overtraining", bootstrap=0)
    assert other.objective == pytest.approx(tied.objective, rel=1e-9)
    u, v, h = (other.parameters[name].value for name in ("u", "v", "h"))
    got = [other.parameters["E"].value, u * 6**-h, v * 6**-h, 2 * h]
    assert got == pytest.approx(tied.values, rel=1e-5)


@pytest.mark.parametrize("train_set", TRAIN_SETS)
@pytest.mark.parametrize("loss", ["huber", "least-squares"])
def test_a_law_that_contains_another_never_fits_worse(train_set, loss, example):
    points = example(train_set)
    laws = [law for law in LAWS if set(get_law(law).axes) <= {"params", "data", "flops"}]
    objective = {law: fit(points, law=law, bootstrap=0, loss=loss).objective for law in laws}
    wider = [("coupled", "chinchilla"), ("coupled", "kaplan"), ("chinchilla", "tied")]
    wider += [("chinchilla", "power_floor:params"), ("chinchilla", "power_floor:data")]
    wider += [(f"power_floor:{x}", f"power:{x}") for x in ("params", "data", "flops")]
    for wide, narrow in wider:
        assert objective[wide] <= objective[narrow] * (1 + 1e-9), (wide, narrow)


def test_coupled_holds_chinchilla_and_kaplan_as_edges():
    x = np.log([[1e8, 1e9, 1e10], [1e12, 1e10, 1e9]])
    e, a, b, p, q = TRUTHS["chinchilla"].values()
    added = get_law("chinchilla").predict(np.array([[e, a, b, p, q]]), x)
    assert get_law("coupled").predict(np.array([[e, a, b, p, q, 1.0]]), x) == pytest.approx(added, rel=1e-12)
    n_c, d_c, a_n, a_d = TRUTHS["kaplan"].values()
    joined = get_law("kaplan").predict(np.array([[n_c, d_c, a_n, a_d]]), x)
    assert joined[0] == pytest.approx(((n_c / np.exp(x[0])) ** (a_n / a_d) + d_c / np.exp(x[1])) ** a_d, rel=1e-12)
    inner = np.array([[1e-12, n_c ** (a_n / a_d), d_c, a_n / a_d, 1.0, a_d]])
    assert get_law("coupled").predict(inner, x) == pytest.approx(joined, rel=1e-11)


def test_coupled_becomes_chinchilla_where_terms_simply_add():
    """Noise would take k above 1 here; it stops there, and the fit says so."""
    points = on_surface("chinchilla", noise=0.01, seed=1)
    result, plain = fit(points, law="coupled", bootstrap=0), fit(points, bootstrap=0)
    assert result.status == "bound-hit"
    assert "at-bound" in {warning.code for warning in result.warnings}
    assert result.values == pytest.approx([*plain.values, 1.0], rel=1e-5)


@pytest.mark.parametrize("law", DIFFERENT)
def test_no_random_start_finds_a_lower_objective(law):
    """On a surface of another law, where a fit has several optima, the true one is found all the same."""
    problem = pose(get_law(law), on_surface("chinchilla", noise=0.01, seed=1), HUBER, None)
    low, high = problem.law.bounds
    starts = np.random.default_rng(0).uniform(np.maximum(low, -6.0), np.minimum(high, 2.0), (150, len(low)))
    found = minimise(problem.law, starts, problem.x, problem.y, problem.w, loss=HUBER)
    assert solve(problem).objective <= found.objective.min() * (1 + 1e-12)


@pytest.mark.parametrize("law", ["tied", "kaplan", "coupled", "overtraining"])
def test_no_general_optimiser_finds_a_lower_objective(law, example):
    problem = pose(get_law(law), example("rpj"), HUBER, None)
    best, rng = solve(problem), np.random.default_rng(0)
    assert best.agreeing == 1.0

    def objective(theta: np.ndarray) -> float:
        low, high = problem.law.bounds
        inside = np.clip(theta, low, high)[None]
        return 1e3 * value(problem.law, inside, problem.x, problem.y, problem.w, problem.loss)[0]

    for _ in range(4):
        start = best.theta + 0.05 * rng.standard_normal(len(best.theta))
        found = minimize(objective, start, method="Nelder-Mead", options={"maxfev": 3000, "fatol": 1e-15})
        assert found.fun / 1e3 >= best.objective * (1 - 1e-12)


# E, A, B before the factor 6^(alpha / 2) of their form in compute, alpha
GADRE = {
    "c4_original": (1.50826, 113.693, 189.516, 0.24247),
    "rpj": (1.83665, 166.211, 366.687, 0.27285),
    "rw_original": (1.73446, 125.096, 246.207, 0.25439),
}


@pytest.mark.parametrize("train_set", GADRE)
def test_gadre_fits_on_their_five_runs(train_set, example):
    """Least squares on the loss itself, as their code does, on the four small sizes at M = 20 and one at 320."""
    points = example(train_set)
    m = points.data / points.params
    cheap = (np.isclose(m, 20) & (points.params < 1e9)) | (np.isclose(m, 320) & (points.params < 2e7))
    points, law = points.take(cheap), get_law("tied")
    assert points.n == 5
    near = fit(points, law="tied", bootstrap=0, loss="least-squares").values
    x = np.log(np.stack([points.params, points.data]))
    found = least_squares(
        lambda logs: law.predict(np.exp(logs)[None], x)[0] - points.loss, np.log(near), xtol=1e-15, ftol=1e-15
    )
    e, a, b, alpha = GADRE[train_set]
    assert np.exp(found.x) == pytest.approx([e, a, b * 6 ** (-alpha / 2), alpha], rel=3e-5)
    assert near == pytest.approx(np.exp(found.x), rel=0.07)

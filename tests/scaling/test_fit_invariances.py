"""What must not change a fit, and tables never seen before against a general optimiser from random starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from scaling import FitResult, Points, fit
from scaling.laws import get_law
from scaling.losses import HUBER
from scaling.problem import pose, resolve, solve
from scaling.solver import minimise
from tests.scaling.known_surface import surface

COLUMNS = ("params", "tokens", "loss", "run")
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=10, deadline=None)


def table(seed: int, n: int = 40) -> Points:
    """Noisy points of runs with several checkpoints each."""
    rng = np.random.default_rng(seed)
    params, data = 10 ** rng.uniform(7, 10, n), 10 ** rng.uniform(9, 12, n)
    loss = surface(params, data) * np.exp(0.01 * rng.standard_t(4, n))
    runs = np.array([f"run {i}" for i in rng.integers(0, n // 2, n)])
    return Points(params=params, data=data, loss=loss, cluster=runs)


POINTS = table(5)
BASE = fit(POINTS, bootstrap=0)


@few
@given(seed=seeds)
def test_row_order_does_not_matter(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(POINTS.n)
    ours, theirs = fit(POINTS, bootstrap=5), fit(POINTS.take(order), bootstrap=5)
    assert ours == theirs
    assert np.array_equal(ours.draws, theirs.draws)


@few
@given(order=st.permutations(COLUMNS), rename=st.booleans())
def test_order_and_spelling_of_columns_do_not_matter(order: list[str], rename: bool) -> None:
    columns = {"params": POINTS.params, "tokens": POINTS.data, "loss": POINTS.loss, "run": POINTS.cluster}
    spelt = {"params": "N", "tokens": "n_tokens", "loss": "val/loss", "run": "run_id"}
    frame = {spelt[name] if rename else name: columns[name] for name in order}
    read, given_points = fit(frame, bootstrap=5), fit(POINTS, bootstrap=5, flops_per=6.0)
    assert read.parameters == given_points.parameters
    assert np.array_equal(read.draws, given_points.draws)


@few
@given(seed=seeds)
def test_names_of_clusters_do_not_matter(seed: int) -> None:
    """New names in the same order are the same clusters, draw by draw; in another order, the same up to the draw."""
    assert POINTS.cluster is not None
    names, codes = np.unique(POINTS.cluster, return_inverse=True)
    rng = np.random.default_rng(seed)
    sorted_names = np.sort(rng.choice(10**6, size=len(names), replace=False).astype(np.str_))
    base = fit(POINTS, bootstrap=20)
    renamed = fit(replace(POINTS, cluster=sorted_names[codes]), bootstrap=20)
    assert renamed.parameters == base.parameters
    shuffled = fit(replace(POINTS, cluster=rng.permutation(names)[codes]), bootstrap=0)
    assert shuffled.values == pytest.approx(base.values, rel=1e-12)


@few
@given(n=st.floats(-9, 3), d=st.floats(-9, 3), scale=st.floats(-3, 3))
def test_units_change_coefficients_by_their_exact_power(n: float, d: float, scale: float) -> None:
    changed = fit(scaled(POINTS, 10**n, 10**d, 10**scale), bootstrap=0)
    old, new = values_of(BASE), values_of(changed)
    assert changed.objective == pytest.approx(BASE.objective, rel=1e-9)
    assert [new["alpha"], new["beta"]] == pytest.approx([old["alpha"], old["beta"]], rel=1e-6)
    assert new["E"] == pytest.approx(old["E"] * 10**scale, rel=1e-6)
    assert np.log(new["A"]) == pytest.approx(np.log(old["A"]) + np.log(10) * (scale + n * new["alpha"]), abs=2e-5)
    assert np.log(new["B"]) == pytest.approx(np.log(old["B"]) + np.log(10) * (scale + d * new["beta"]), abs=2e-5)
    predicted = changed.predict(1e10 * 10**n, 1e12 * 10**d)
    assert predicted == pytest.approx(BASE.predict(1e10, 1e12) * 10**scale, rel=1e-7)


@pytest.mark.parametrize("factor", [1 / 128, 32.0, 0.05])
def test_a_factor_on_the_loss_scales_e_a_and_b_alone(factor: float) -> None:
    old, new = values_of(BASE), values_of(fit(scaled(POINTS, 1.0, 1.0, factor), bootstrap=0))
    for name in ("E", "A", "B"):
        assert new[name] == pytest.approx(old[name] * factor, rel=1e-6)
    for name in ("alpha", "beta"):
        assert new[name] == pytest.approx(old[name], rel=1e-7)


@few
@given(copies=st.integers(2, 4))
def test_copies_that_share_a_weight_are_the_row(copies: int) -> None:
    many = POINTS.take(np.tile(np.arange(POINTS.n), copies))
    shared = fit(replace(many, weight=np.full(many.n, 1.0 / copies)), bootstrap=0)
    assert shared.objective == pytest.approx(BASE.objective, rel=1e-11)
    assert shared.values == pytest.approx(BASE.values, rel=1e-6)
    counted = fit(replace(POINTS, weight=np.full(POINTS.n, float(copies))), bootstrap=0)
    assert counted.objective == pytest.approx(copies * BASE.objective, rel=1e-11)
    assert fit(many, bootstrap=0).objective == pytest.approx(counted.objective, rel=1e-11)


def test_a_row_without_weight_is_not_there() -> None:
    weight = np.where(np.arange(POINTS.n) % 5 == 0, 0.0, 1.0)
    without = fit(POINTS.take(weight > 0), bootstrap=0)
    ignored = fit(replace(POINTS, weight=weight), bootstrap=0)
    assert ignored.objective == pytest.approx(without.objective, rel=1e-11)


def unseen(seed: int, n: int, noise: float, spoilt: float, law: str) -> Points:
    """A table like none before: random surface, random design, heavy tails, and some rows far above the rest."""
    rng = np.random.default_rng(seed)
    params = 10 ** rng.uniform(6, 6 + rng.uniform(1, 4), n)
    data = params ** rng.uniform(0.3, 1.2) * 10 ** rng.uniform(1, 4, n)
    e, a, b = rng.uniform(0.1, 3), rng.uniform(1, 600), rng.uniform(1, 5000)
    loss = e + a * params ** -rng.uniform(0.1, 0.7) + b * data ** -rng.uniform(0.1, 0.7)
    loss = loss * np.exp(noise * rng.standard_t(3, n)) * np.where(rng.random(n) < spoilt, rng.uniform(1.02, 1.3), 1.0)
    return Points(params=params, data=data, loss=loss, flops=6 * params * data)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=seeds,
    n=st.integers(8, 60),
    noise=st.sampled_from([1e-3, 1e-2, 5e-2]),
    spoilt=st.sampled_from([0.0, 0.15]),
    law=st.sampled_from(["chinchilla", "tied", "power_floor:flops"]),
)
def test_no_random_start_ends_lower(seed: int, n: int, noise: float, spoilt: float, law: str) -> None:
    """40 random starts of L-BFGS-B."""
    problem = pose(get_law(law), unseen(seed, n, noise, spoilt, law), HUBER, 6.0)
    best = solve(problem)
    low, high = problem.law.bounds
    k = len(problem.law.coefficients) + (problem.law.floor is not None)
    rng = np.random.default_rng(seed)

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        local = problem.law.linearise(theta[None], problem.x)
        residual = problem.y - local.value[0]
        return 1e3 * float(HUBER.of(residual).sum()), -1e3 * local.jacobian[0] @ HUBER.slope(residual)

    lowest = np.inf
    for _ in range(40):
        start = np.concatenate([rng.uniform(-6, 1, k), rng.uniform(0.02, 1.0, len(low) - k)])
        found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)))
        lowest = min(lowest, found.fun / 1e3)
    assert best.objective <= lowest * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("train_set", ["rpj", "rw_original"])
def test_every_resample_is_at_its_own_optimum(train_set: str, example) -> None:
    points = example(train_set).canonical()
    problem = pose(get_law("chinchilla"), points, HUBER, 6.0)
    best, rng = solve(problem), np.random.default_rng(3)
    w = rng.multinomial(points.n, np.full(points.n, 1 / points.n), size=300).astype(float)
    found = resolve(problem, best.theta, problem.y, w)
    low, high = problem.law.bounds
    for i in [*np.flatnonzero(~found.converged), *range(0, 300, 20)]:
        starts = best.theta + np.array([1.0, 1.0, 1.0, 0.2, 0.2]) * rng.standard_normal((20, 5))
        again = minimise(problem.law, np.clip(starts, low, high), problem.x, problem.y, w[i], loss=HUBER)
        assert found.objective[i] <= again.objective.min() * (1 + 1e-9)


def scaled(points: Points, params: float, data: float, loss: float) -> Points:
    """The same points in other units."""
    columns = (points.need("params") * params, points.need("data") * data, points.loss * loss)
    return replace(points, params=columns[0], data=columns[1], loss=columns[2])


def values_of(result: FitResult) -> dict[str, float]:
    """Parameters by name."""
    return {name: each.value for name, each in result.parameters.items()}

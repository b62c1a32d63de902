"""Separable least squares: the linear part against scipy's bounded solver, the whole against its definition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from scaling.separable import project, solve


@dataclass(frozen=True)
class Decay:
    """c1 + c2 exp(-theta x)."""

    x: np.ndarray
    box: np.ndarray
    ordered: bool = False
    cells = np.linspace(0.1, 5.0, 30)[:, None]
    limits = np.array([[0.05], [6.0]])

    def columns(self, theta):
        return np.stack([np.ones((len(theta), len(self.x))), np.exp(-theta * self.x)], axis=1)


FREE = np.array([[-np.inf, -np.inf], [np.inf, np.inf]])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), low=st.floats(-2, 0), high=st.floats(0.1, 2), ordered=st.booleans())
def test_coefficients_are_those_of_a_bounded_solver(seed, low, high, ordered):
    rng = np.random.default_rng(seed)
    model = Decay(np.sort(rng.uniform(0, 3, 12)), np.array([[low, low], [high, high]]), ordered)
    theta, y, w = np.array([[1.3]]), rng.normal(size=(1, 12)), rng.uniform(0.1, 2, (1, 12))
    ours, squares, _ = project(model, theta, y, w)
    columns = model.columns(theta)[0]
    assert np.all(ours >= low - 1e-12) and np.all(ours <= high + 1e-12)
    if ordered:
        # c2 = c1 + a step of at least 0: one more bounded problem, as long as the box does not bind the step.
        def value(c):
            return float(np.sum(w[0] * (y[0] - c @ columns) ** 2))

        grid = np.linspace(low, high, 60)
        best = min(value(np.array([a, b])) for a in grid for b in grid if b >= a)
        assert ours[0, 1] >= ours[0, 0] - 1e-12 and squares[0] <= best + 1e-9
    else:
        root = np.sqrt(w[0])
        theirs = optimize.lsq_linear((columns * root).T, y[0] * root, bounds=(low, high), tol=1e-14)
        assert squares[0] <= 2 * theirs.cost * (1 + 1e-9) + 1e-12


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_optimum_is_no_higher_than_a_fine_scan(seed):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, 3, 20))
    model = Decay(x, FREE)
    y, w = 0.5 + np.exp(-rng.uniform(0.2, 4) * x) + 0.1 * rng.normal(size=20), rng.integers(0, 3, (5, 20)).astype(float)
    found = solve(model, y, w)
    scan = np.linspace(0.05, 6.0, 2000)[:, None]
    for each in range(5):
        wide = np.broadcast_to(w[each], (len(scan), 20))
        best = project(model, scan, np.broadcast_to(y, wide.shape), wide)[1].min()
        assert found.squares[each] <= best * (1 + 1e-6) + 1e-12


def test_a_batch_gives_what_each_alone_gives():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 3, 15)
    model = Decay(x, FREE)
    y = 1 + np.exp(-1.5 * x) + 0.02 * rng.normal(size=(4, 15))
    together = solve(model, y, np.ones((4, 15)))
    for each in range(4):
        alone = solve(model, y[each], np.ones((1, 15)))
        np.testing.assert_allclose(together.squares[each], alone.squares[0], rtol=1e-9)
        np.testing.assert_allclose(together.theta[each], alone.theta[0], rtol=1e-5)

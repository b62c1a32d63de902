"""Allocation: the closed form, the published table, exact equalities, and what is flagged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scaling import FitInputError, FitResult, Points, fit
from scaling.cost import Cost
from scaling.isocost import minimise
from scaling.lifetime import lifetime
from scaling.planning import surface_of

# budget, N*, D*, D*/N*, loss, each with its 80 % interval (4000 resamples of rows)
PUBLISHED = (
    (1e21, 2.792e9, (2.52e9, 3.14e9), 5.97e10, (5.31e10, 6.62e10), 21.38, (16.9, 26.3), 2.3045, (2.3006, 2.3084)),
    (5.76e23, 7.319e10, (5.75e10, 9.86e10), 1.312e12, (9.74e11, 1.67e12), 17.92, (9.9, 29.0), 1.9739, (1.9578, 1.9909)),
    (1e25, 3.173e11, (2.34e11, 4.62e11), 5.253e12, (3.61e12, 7.12e12), 16.55, (7.8, 30.4), 1.9114, (1.8907, 1.9330)),
    (3.8e25, 6.301e11, (4.52e11, 9.54e11), 1.005e13, (6.64e12, 1.4e13), 15.95, (7.0, 31.0), 1.8914, (1.8690, 1.9148)),
)


@pytest.fixture(scope="module")
def chinchilla() -> FitResult:
    """A fit of the known surface with resamples."""
    from tests.scaling.known_surface import surface

    params, data = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e10, 8), np.geomspace(1e8, 1e12, 6)))
    loss = surface(params, data) * np.exp(0.003 * np.random.default_rng(0).standard_normal(params.size))
    return fit(Points(params=params, data=data, loss=loss, flops=6 * params * data), bootstrap=200)


def test_published_allocation(published: Callable[..., Points]) -> None:
    result = fit(published("chinchilla_epoch", in_fit="True"), bootstrap=1000, intervals="percentile")
    for flops, n, n_80, d, d_80, ratio, ratio_80, loss, loss_80 in PUBLISHED:
        best = result.allocate(flops)
        assert [best.params.value, best.data.value] == pytest.approx([n, d], rel=1e-3)
        assert best.data_per_param.value == pytest.approx(ratio, rel=1e-3)
        assert best.loss.value == pytest.approx(loss, abs=6e-5)
        for estimate, interval in ((best.params, n_80), (best.data, d_80), (best.data_per_param, ratio_80)):
            width = np.log(interval[1] / interval[0])
            assert np.log(estimate.interval) == pytest.approx(np.log(interval), abs=0.12 * width)
        assert best.loss.interval == pytest.approx(loss_80, abs=0.12 * (loss_80[1] - loss_80[0]))


@pytest.mark.parametrize("law", ["chinchilla", "tied", "coupled", "kaplan", "overtraining"])
def test_the_numerical_optimum_is_the_closed_form(chinchilla: FitResult, law: str, synthetic: object) -> None:
    points = synthetic(noise=0.003)  # pyright: ignore[reportCallIssue]
    result = fit(points, law=law, bootstrap=0)
    for flops in (1e18, 1e22, 1e26):
        best, (params, data, loss) = result.allocate(flops), result.frontier(flops)
        assert best.params.value == pytest.approx(float(params), rel=1e-6)
        assert best.data.value == pytest.approx(float(data), rel=1e-6)
        assert best.loss.value == pytest.approx(float(loss), rel=1e-12)


def test_every_resample_has_its_own_optimum(chinchilla: FitResult) -> None:
    window = (1e5, 1e15)
    found = minimise(surface_of(chinchilla, draws=True), Cost.proportional(6.0), 1e23, window)
    _, a, b, alpha, beta = chinchilla.draws.T
    exact = (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (1e23 / 6) ** (beta / (alpha + beta))
    assert np.exp(found.log_params) == pytest.approx(exact, rel=1e-4)
    assert not found.edge.any()


def test_a_measured_cost_moves_the_optimum_to_cheaper_sizes() -> None:
    sizes = np.geomspace(1e6, 1e12, 40)
    # A sample costs k N^1.2: larger models are dearer than their size, so N* ~ C^(b / (1.2 a + b))
    dear = Cost.tabulated(sizes, 6 * sizes**1.2)
    truth = {"E": 1.7, "A": 400.0, "B": 1500.0, "alpha": 0.34, "beta": 0.36}
    params, data = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e10, 8), np.geomspace(1e8, 1e12, 6)))
    loss = truth["E"] + truth["A"] * params ** -truth["alpha"] + truth["B"] * data ** -truth["beta"]
    result = fit(Points(params=params, data=data, loss=loss, flops=6 * params * data), bootstrap=0)
    low, high = (result.allocate(flops, dear) for flops in (1e22, 1e24))
    slope = np.log(high.params.value / low.params.value) / np.log(100)
    assert slope == pytest.approx(0.36 / (0.34 + 1.2 * 0.36), rel=1e-3)
    assert dear.per_sample(low.params.value) * low.data.value == pytest.approx(1e22, rel=1e-9)
    assert low.params.value < result.allocate(1e22).params.value


def test_cost_is_read_from_points() -> None:
    params = np.repeat([1e6, 4e6, 1.6e7], 2)
    data = np.tile([1e4, 1e5], 3)
    bent = Points(params=params, data=data, loss=np.ones(6), flops=10 * params**0.8 * 1e2 * data)
    cost = Cost.measured(bent, None)
    assert cost.per_sample([1e6, 4e6, 6.4e7]) == pytest.approx(1e3 * np.array([1e6, 4e6, 6.4e7]) ** 0.8)
    straight = Points(params=params, data=data, loss=np.ones(6), flops=7 * params * data)
    assert Cost.measured(straight, None).per_sample(123.0) == pytest.approx(861.0)
    bare = Points(params=params, data=data, loss=np.ones(6))
    assert Cost.measured(bare, 6.0).per_sample(10.0) == pytest.approx(60.0)
    with pytest.raises(FitInputError, match="flops column"):
        Cost.measured(bare, None)


def test_deviations_are_priced_at_equal_loss(chinchilla: FitResult) -> None:
    best = chinchilla.allocate(1e22)
    at_optimum = next(each for each in best.deviations if each.factor == pytest.approx(1.0))
    assert at_optimum.compute_factor == pytest.approx(1.0, abs=1e-6) and at_optimum.loss_increase < 1e-12
    for each in best.deviations:
        assert 6 * each.params * each.data == pytest.approx(1e22, rel=1e-9)
        assert chinchilla.allocate(each.equivalent_flops).loss.value == pytest.approx(each.loss, rel=1e-5)
    factors = [each.compute_factor for each in best.deviations]
    assert factors[0] > factors[1] > factors[2] > 1.0 < factors[4] < factors[5] < factors[6]


def test_inference_asks_for_a_smaller_model_of_the_same_loss(chinchilla: FitResult) -> None:
    none = lifetime(chinchilla, 1e22, 0.0, 1 / 3)
    assert none.params == pytest.approx(none.optimal_params, rel=1e-3) and abs(none.saving) < 1e-6
    some, much = (lifetime(chinchilla, 1e22, volume, 1 / 3) for volume in (1e11, 1e13))
    assert much.params < some.params < none.params and 0 < some.saving < much.saving
    for life in (some, much):
        assert float(chinchilla.predict(life.params, life.data)) == pytest.approx(life.loss, rel=1e-9)
        assert life.training_flops == pytest.approx(6 * life.params * life.data, rel=1e-9)
        assert life.inference_flops == pytest.approx(2 * life.params * life.samples, rel=1e-9)
        total = life.training_flops + life.inference_flops
        assert life.saving == pytest.approx(1 - total / life.optimal_total)
        # Lagrange's condition of Sardana et al. for c = 6 N: neighbours of equal loss cost more.
        for factor in (0.98, 1.02):
            params = life.params * factor
            low, high = life.data * 0.1, life.data * 10.0
            for _ in range(80):
                middle = np.sqrt(low * high)
                low, high = (middle, high) if chinchilla.predict(params, middle) > life.loss else (low, middle)
            assert 6 * params * high + 2 * params * life.samples > total
    with pytest.raises(FitInputError, match="negative"):
        lifetime(chinchilla, 1e22, -1.0, 1 / 3)


def test_flags(chinchilla: FitResult) -> None:
    assert not {"extrapolation", "outside-params", "optimum-edge"} & {n.code for n in chinchilla.allocate(1e21).notices}
    far = {notice.code for notice in chinchilla.allocate(1e26).notices}
    assert far == {"extrapolation", "outside-params", "outside-data"}
    assert chinchilla.allocate(1e26).extrapolation == pytest.approx(1e26 / 6e22)


def test_what_cannot_be_allocated_says_why(chinchilla: FitResult, synthetic: Callable[..., Points]) -> None:
    with pytest.raises(FitInputError, match="budget is -1"):
        chinchilla.allocate(-1.0)
    line = fit(synthetic(), law="power_floor:flops", bootstrap=0)
    with pytest.raises(FitInputError, match="trade off"):
        line.allocate(1e21)
    points = synthetic()
    bare = fit(Points(params=points.params, data=points.data, loss=points.loss), bootstrap=0)
    with pytest.raises(FitInputError, match="flops column"):
        bare.allocate(1e21)
    assert bare.allocate(1e21, Cost.proportional(6.0)).params.value > 0


def test_json_has_no_nan(chinchilla: FitResult) -> None:
    import json

    json.dumps(chinchilla.allocate(1e22).to_json(), allow_nan=False)
    points = Points(params=[1e6, 1e7, 1e8] * 2, data=[1e8] * 3 + [1e9] * 3, loss=[4, 3, 2.5, 3.6, 2.7, 2.2], flops=None)  # pyright: ignore
    result = fit(points, law="tied", bootstrap=0, flops_per=6.0)
    json.dumps(result.allocate(1e18).to_json(), allow_nan=False)

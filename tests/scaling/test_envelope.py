"""The envelope of training curves: simulated curves of a known law, and what is refused or flagged."""

from __future__ import annotations

import numpy as np
import pytest

from scaling import FitInputError, Points
from scaling.envelope import envelope
from tests.scaling.known_surface import TRUTH, surface


def curves(sizes: np.ndarray, noise: float = 0.0, rows: int = 60, seed: int = 0, least: float = 0.1) -> Points:
    """Training curves at a constant rate, each from ``least`` to 2000 times the size in data."""
    rng = np.random.default_rng(seed)
    params = np.repeat(sizes, rows)
    data = params * np.tile(np.geomspace(least, 2000, rows), len(sizes))
    loss = surface(params, data) * np.exp(noise * rng.standard_normal(params.size))
    names = np.array([f"run{n:.4g}" for n in params])
    return Points(params=params, data=data, loss=loss, flops=6 * params * data, cluster=names)


def test_without_noise_the_exponents_are_those_of_the_law() -> None:
    found = envelope(curves(np.geomspace(1e7, 1e10, 25)), bootstrap=0)
    a = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    assert found.params_exponent.value == pytest.approx(a, abs=0.02)
    assert found.data_exponent.value == pytest.approx(1 - a, abs=0.02)
    assert found.exponent_sum.value == pytest.approx(1.0, abs=2e-3)
    g = (TRUTH["alpha"] * TRUTH["A"] / (TRUTH["beta"] * TRUTH["B"])) ** (1 / (TRUTH["alpha"] + TRUTH["beta"]))
    for flops in (1e19, 1e20):
        # Sizes are a factor 1.33 apart, so a winner is within half of that of the optimum.
        assert found.at(flops)[0].value == pytest.approx(g * (flops / 6) ** a, rel=0.1)
    assert found.loss_laws[0].parameters["E"].value == pytest.approx(TRUTH["E"], abs=0.1)


def test_more_sizes_come_closer() -> None:
    a = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    errors = [
        abs(envelope(curves(np.geomspace(1e7, 1e10, count), rows=120), smooth=1, bootstrap=0).params_exponent.value - a)
        for count in (6, 60)
    ]
    assert errors[1] < 0.01 and errors[1] <= errors[0]


def test_intervals_come_from_runs_and_do_not_depend_on_row_order() -> None:
    points = curves(np.geomspace(1e7, 1e10, 16), noise=0.003)
    found = envelope(points, bootstrap=60)
    low, high = found.params_exponent.interval
    assert low < found.params_exponent.value < high and high - low < 0.3
    shuffled = envelope(points.take(np.random.default_rng(1).permutation(points.n)), bootstrap=60)
    assert shuffled.params_exponent == found.params_exponent


def test_places_at_the_edge_of_the_sizes_are_left_out() -> None:
    found = envelope(curves(np.geomspace(1e8, 3e8, 5)), bootstrap=0)
    assert {"edge"} <= {notice.code for notice in found.notices}
    used = {round(optimum.params) for optimum in found.optima if optimum.used}
    assert round(1e8) not in used and round(3e8) not in used
    with pytest.raises(FitInputError, match="both sides"):
        envelope(curves(np.array([1e8, 3e8])), bootstrap=0)


def test_a_decaying_schedule_is_noticed() -> None:
    points = curves(np.geomspace(1e7, 1e10, 30), least=2.0)
    assert "decaying-schedule" not in {notice.code for notice in envelope(points, bootstrap=0).notices}
    share = np.tile(np.linspace(0, 1, 60), 30)
    decayed = Points(
        params=points.params,
        data=points.data,
        loss=points.loss * np.where(share > 0.8, 1 - 0.6 * (share - 0.8), 1.0),
        flops=points.flops,
        cluster=points.cluster,
    )
    assert "decaying-schedule" in {notice.code for notice in envelope(decayed, bootstrap=0).notices}


def test_what_is_no_set_of_curves_is_refused() -> None:
    points = curves(np.geomspace(1e7, 1e10, 5))
    with pytest.raises(FitInputError, match="names the run"):
        envelope(Points(params=points.params, data=points.data, loss=points.loss, flops=points.flops))
    with pytest.raises(FitInputError, match="flops column"):
        envelope(Points(params=points.params, data=points.data, loss=points.loss, cluster=points.cluster))
    with pytest.raises(FitInputError, match="smooth is 0"):
        envelope(points, smooth=0)
    far = points.take(np.flatnonzero(np.isin(points.need("params"), [1e7, 1e10])))
    apart = far.take(np.flatnonzero((far.need("params") > 1e9) | (far.need("data") < 1e8)))
    with pytest.raises(FitInputError, match=r"overlap|both sides"):
        envelope(apart)

"""Tables that lack an axis: what can be fitted from them, and what a law without its axis answers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scaling import FitInputError, FitResult, Points, fit
from scaling.backtest import backtest
from scaling.points import AXES, ONE_AXIS


def line(axis: str, *, noise: float = 0.0, n: int = 14, **more: np.ndarray) -> Points:
    """Losses along one axis, with nothing else recorded."""
    x = np.geomspace(1e3, 1e7, n)
    luck = np.exp(noise * np.random.default_rng(0).standard_normal(n))
    return Points(**{axis: x}, loss=(0.4 + 30 * x**-0.25) * luck, **more)


@pytest.mark.parametrize("axis", ONE_AXIS)
def test_a_table_of_one_axis_is_fitted_and_predicts(axis):
    result = fit(line(axis), law=f"power_floor:{axis}", bootstrap=0, predict=[{axis: 1e9}])
    assert result.values == pytest.approx([0.4, 30, 0.25], rel=1e-6)
    (run,) = result.predictions
    assert {name: getattr(run, name) for name in AXES} == {**dict.fromkeys(AXES), axis: 1e9}
    assert run.loss == pytest.approx(0.4 + 30 * 1e9**-0.25, rel=1e-9)
    assert result.observed == {axis: pytest.approx((1e3, 1e7))}
    assert FitResult.from_json(json.loads(json.dumps(result.to_json()))).predictions[0].loss == run.loss


@pytest.mark.parametrize("axis", ONE_AXIS)
def test_intervals_and_warnings_do_without_the_other_axes(axis):
    points = line(axis, noise=0.003)
    result = fit(points, law=f"power_floor:{axis}", bootstrap=100, predict=[{axis: 1e9}, {axis: 1e7}])
    near, far = result.predictions[1], result.predictions[0]
    assert near.interval[0] < 0.4 + 30 * 1e7**-0.25 < near.interval[1]
    assert np.log(far.interval[1] / far.interval[0]) >= np.log(near.interval[1] / near.interval[0]) * 0.9
    warnings = {warning.code: warning.message for warning in result.warnings}
    assert "100 times the largest" in warnings["extrapolation"]
    assert not {"ignored-axis", "collinear", "flops-convention"} & set(warnings)


@pytest.mark.parametrize("n", [3, 4])
def test_few_points_of_one_axis_are_resampled_without_losing_places(n):
    result = fit(line("steps", noise=0.01, n=n), law="power_floor:steps", bootstrap=50)
    assert result.draws.shape == (50, 3)
    assert "clusters drawn" not in result.resampling
    assert np.isfinite(result.draws).all()


def test_a_law_says_which_axis_is_missing():
    with pytest.raises(FitInputError, match=r"'chinchilla' needs params, and the points have flops: .*:flops"):
        fit(line("flops"), bootstrap=0)
    with pytest.raises(FitInputError, match="needs data, and the points have params and steps"):
        fit(line("steps", params=np.full(14, 1e6)), bootstrap=0)
    with pytest.raises(FitInputError, match=r"no column for params \(they have steps, loss\)"):
        line("steps").need("params")


def test_predicting_without_an_axis_of_the_law_is_refused():
    result = fit(line("steps"), law="power_floor:steps", bootstrap=0)
    with pytest.raises(FitInputError, match=r"give steps as well \(only params and data given\)"):
        result.predict(1e9, 1e10)
    with pytest.raises(FitInputError, match="cannot predict at depth=3"):
        fit(line("steps"), law="power_floor:steps", bootstrap=0, predict=[{"depth": 3}])
    with pytest.raises(FitInputError, match=r"give \(params, data\)"):
        fit(line("steps"), law="power_floor:steps", bootstrap=0, predict=[(1.0, 2.0, 3.0)])


def test_compute_given_by_name_is_taken_before_k_n_d(synthetic):
    points = synthetic()
    result = fit(points, law="power_floor:flops", bootstrap=0)
    assert result.predict(1e9, 1e10) == result.predict(flops=6e19)
    assert result.predict(1e9, 1e10, flops=1e22) == result.predict(flops=1e22)


def test_a_backtest_takes_the_compute_of_every_row():
    """Where C / (N D) falls with size, as it does when attention is counted, k N D is not the compute of a row."""
    params = np.geomspace(1e7, 1e10, 12)
    flops = 6 * params * 20 * params * (1 + 1.5 * (params / 1e7) ** -0.3)
    points = Points(params=params, data=20 * params, flops=flops, loss=0.5 + 4e3 * flops**-0.2)
    result = backtest(points, ["power_floor:flops"], bootstrap=0)
    assert max(cut.score.max_abs for cut in result.cuts) < 1e-6
    assert backtest(Points(flops=flops, loss=points.loss), ["power_floor:flops"], bootstrap=0).n_cuts == result.n_cuts


def test_every_column_moves_with_its_row():
    points = Points(loss=[3.0, 2.0, 1.0], steps=[1.0, 2.0, 3.0], stderr=[0.1, 0.2, 0.3], unique=[5.0, 6.0, 7.0])
    taken = points.canonical().take(np.array([0, 2]))
    assert [taken.loss[0], taken.stderr[0]] in ([3.0, 0.1], [1.0, 0.3])
    with pytest.raises(FitInputError, match=r"stderr\[0\] is 0"):
        Points(loss=[1.0], stderr=[0.0])

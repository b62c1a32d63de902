"""Extrapolated training curves: known curves, autocorrelation, decay, shared shapes, and intervals that tests widen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from scaling import FitInputError
from scaling.curves import Curve, Origin, constant_part, extrapolate, predict, rolling_origin, widening

STEP = np.arange(1.0, 31.0) * 50


def curve(run="a", floor=0.5, drop=1.0, g=0.8, s0=100.0, noise=0.0, seed=0, step=STEP, params=1.0):
    rng = np.random.default_rng(seed)
    shape = ((step + s0) / (step[0] + s0)) ** -g
    loss = (floor + drop * shape) * np.exp(noise * rng.standard_normal(len(step)))
    return Curve(run=run, step=step, loss=loss, params=params)


def test_a_noiseless_curve_is_continued():
    whole = curve()
    result = extrapolate(whole.between(0, 750), 1500.0)
    assert result.loss == pytest.approx(whole.loss[-1], rel=2e-3)
    assert result.interval[0] <= whole.loss[-1] * 1.002 and whole.loss[-1] * 0.998 <= result.interval[1]
    for name, true in (("E", 0.5), ("g", 0.8), ("s0", 100.0)):
        low, high = result.parameters[name].interval
        assert low * 0.9 <= true <= high * 1.1, name


def test_the_best_pair_is_as_good_as_another_optimisers():
    noisy = curve(noise=0.01)
    result = extrapolate(noisy, 1500.0)

    def squares(p):
        floor, drop, g, s0 = np.exp(p)
        fitted = floor + drop * ((noisy.step + s0) / (50 + s0)) ** -g
        return float(np.sum((noisy.loss / fitted - 1) ** 2))

    best = optimize.minimize(squares, np.log([0.5, 1.0, 0.8, 100.0]), method="Nelder-Mead", options={"maxiter": 9000})
    deviation = np.sqrt(best.fun / (len(noisy.step) - 2))
    # The grid is coarse and the correlation is taken out: as good to a few percent of the noise.
    assert result.noise == pytest.approx(deviation, rel=0.1)
    floor, drop, g, s0 = np.exp(best.x)
    assert result.loss == pytest.approx(floor + drop * ((1500 + s0) / (50 + s0)) ** -g, rel=0.01)


def test_runs_of_the_same_size_sharpen_a_prediction():
    errors = {"alone": [], "shared": []}
    widths = {"alone": [], "shared": []}
    for seed in range(12):
        whole = curve(noise=0.01, seed=seed)
        other = curve("b", floor=0.5, drop=1.1, noise=0.01, seed=100 + seed)
        for name, alike in (("alone", []), ("shared", [other])):
            result = extrapolate(whole.between(0, 600), 1500.0, alike)
            errors[name].append(abs(np.log(result.loss / curve().loss[-1])))
            widths[name].append(np.log(result.interval[1] / result.interval[0]))
    assert np.mean(errors["shared"]) < np.mean(errors["alone"])
    assert np.median(widths["shared"]) < np.median(widths["alone"])


def test_correlated_residuals_are_seen_and_widen_the_interval():
    rng = np.random.default_rng(1)
    independent, correlated = curve(noise=0.02, seed=3), curve()
    drift = np.zeros(len(STEP))
    for i in range(1, len(STEP)):
        drift[i] = 0.8 * drift[i - 1] + 0.012 * rng.standard_normal()
    correlated = replace(correlated, loss=correlated.loss * np.exp(drift))
    a, b = extrapolate(independent, 3000.0), extrapolate(correlated, 3000.0)
    assert a.correlation < 0.4 < b.correlation


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.01, 100), stretch=st.sampled_from([0.1, 2.0, 50.0]), seed=st.integers(0, 20))
def test_units_of_loss_and_step_do_not_matter(scale, stretch, seed):
    whole = curve(noise=0.01, seed=seed)
    other = replace(whole, loss=whole.loss * scale, step=whole.step * stretch)
    a, b = extrapolate(whole, 3000.0), extrapolate(other, 3000.0 * stretch)
    np.testing.assert_allclose(np.array([b.loss, *b.interval]), scale * np.array([a.loss, *a.interval]), rtol=1e-6)


def test_warmup_and_decay_are_cut_off():
    rate = np.where(STEP < 200, STEP / 200, np.where(STEP > 1200, (1500 - STEP) / 300, 1.0))
    part = constant_part(replace(curve(), rate=rate))
    assert part.step[0] == 200 and part.step[-1] == 1200
    assert constant_part(curve(), warmup=300.0).step[0] == 300
    with pytest.raises(FitInputError, match="1 losses at a constant learning rate after step 50"):
        constant_part(replace(curve(), rate=0.5 * (1 + np.cos(np.pi * STEP / 1600))))


def test_backtests_are_of_the_run_itself_and_of_every_longer_one():
    runs = [curve(name, noise=0.01, seed=i, params=float(i // 2 + 1)) for i, name in enumerate("abcdef")]
    part = runs[0].between(0, 750)
    result, tests = predict(part, 1500.0, runs[1:])
    assert {test.prediction.run for test in tests} == set("abcdef") and result.tests == 6
    own = next(test for test in tests if test.prediction.run == "a")
    assert (own.prediction.last, own.prediction.to) == (350, 750)
    assert all(test.prediction.last == 750 and test.prediction.to == 1500 for test in tests if test is not own)
    assert result.borrowed == 1 and result.widened >= 1
    raw = extrapolate(part, 1500.0, runs[1:2])
    ratio = np.log(result.interval[1] / result.loss) / np.log(raw.interval[1] / raw.loss)
    assert ratio == pytest.approx(result.widened)


def test_widening_is_the_conformal_quantile():
    base = extrapolate(curve(noise=0.01), 3000.0)
    base = replace(base, loss=1.0, interval=(np.exp(-0.1), np.exp(0.1)))
    tests = [Origin(prediction=base, measured=float(np.exp(0.1 * z))) for z in (0.2, -0.5, 1.5, 3.0, 0.1)]
    assert widening(tests, 0.8) == pytest.approx(3.0)  # ceil(6 x 0.8) = 5th of 5
    assert widening(tests, 0.5) == pytest.approx(1.0)  # the 3rd is 0.5: never narrower
    assert widening(tests[:1], 0.8) == 1.0 and widening([], 0.8) == 1.0


def test_rolling_origins_predict_the_last_loss():
    whole = curve(noise=0.01)
    origins = rolling_origin(whole, 1500.0, fractions=(0.1, 0.4, 0.8))
    assert [origin.prediction.last for origin in origins] == [150 * 4, 1200]  # a tenth has three losses: too few
    assert all(origin.measured == whole.loss[-1] for origin in origins)


@pytest.mark.slow
def test_widened_intervals_cover_curves_that_the_law_cannot_follow():
    inside, alone = [], []
    for seed in range(14):
        rng = np.random.default_rng(seed)
        middle = rng.uniform(5.3, 6.7)
        drop = 1 - 0.25 / (1 + np.exp(-4 * (np.log(STEP) - middle)))
        runs = [curve(name, noise=0.01, seed=10 * seed + i, params=1.0) for i, name in enumerate("abcdef")]
        runs = [replace(each, loss=each.loss * drop) for each in runs]
        part, measured = runs[0].between(0, 750), runs[0].loss[-1]
        low, high = predict(part, 1500.0, runs[1:])[0].interval
        inside.append(low <= measured <= high)
        low, high = extrapolate(part, 1500.0).interval
        alone.append(low <= measured <= high)
    assert sum(inside) >= 9 and sum(inside) >= sum(alone)


def test_bad_input_is_refused():
    with pytest.raises(FitInputError, match="step 50 is there twice"):
        Curve(run="a", step=np.array([50.0, 50.0]), loss=np.array([1.0, 1.0]))
    with pytest.raises(FitInputError, match="loss nan is not a finite"):
        Curve(run="a", step=np.array([50.0]), loss=np.array([np.nan]))
    with pytest.raises(FitInputError, match="columns of one length"):
        Curve(run="a", step=np.array([50.0, 60.0]), loss=np.array([1.0]))
    with pytest.raises(FitInputError, match="3 losses; the curve needs at least 5"):
        extrapolate(curve().between(0, 150), 1000.0)
    with pytest.raises(FitInputError, match="cannot predict step -1"):
        extrapolate(curve(), -1.0)
    shuffled = Curve(run="a", step=STEP[::-1], loss=curve().loss[::-1])
    assert extrapolate(shuffled, 2000.0) == extrapolate(curve(), 2000.0)

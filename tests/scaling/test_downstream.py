"""Forms of a metric in the loss, the chain through them, and the published chained errors of Gadre et al. 2024."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from scaling import FitInputError, Points, fit
from scaling.downstream import FORMS, Metric, MetricRows, Target, chain, choose_form, fit_metric
from scaling.downstream.chain import _losses
from scaling.downstream.forms import get_form
from scaling.downstream.selection import examine
from tests.scaling.conftest import EXAMPLE, read_rows

ERROR = Metric(name="error", direction="min", low=0.0, high=1.0)
SCORE = Metric(name="score", direction="max", low=0.0, high=1.0)

# Reduced fits by the authors' code: N term, D term (before 6^(b/2)), b, E, eps, k, gamma; then mean relative errors, %.
GADRE = {
    "c4_original": ((113.693, 189.516, 0.24247, 1.50826), (0.84974, 2.07891, 0.75612), (1.80, 2.13)),
    "rpj": ((166.211, 366.687, 0.27285, 1.83665), (0.85699, 2.20649, 0.71459), (1.38, 1.52)),
    "rw_original": ((125.096, 246.207, 0.25439, 1.73446), (0.86528, 2.21481, 0.70705), (1.53, 1.66)),
}


def gadre_rows(train_set: str):
    """Rows of a training set: all, the five that the loss fit used, and those with the 1.4B run added."""
    rows = [row for row in read_rows(EXAMPLE) if row["train_set"] == train_set]

    def key(row):
        return float(row["params"]), float(row["chinchilla_multiplier"])

    five = [
        row for row in rows if (key(row)[0] < 5e8 and key(row)[1] == 1) or (key(row)[0] < 2e7 and key(row)[1] == 16)
    ]
    return rows, five, [*five, *(row for row in rows if 1e9 < key(row)[0] < 2e9 and key(row)[1] == 1)]


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def metric_rows(rows):
    return MetricRows(
        loss=column(rows, "loss"),
        value=column(rows, "err_avg17"),
        cluster=np.array([row["run"] for row in rows]),
        flops=column(rows, "flops"),
    )


def points_of(rows):
    return Points(
        params=column(rows, "params"),
        data=column(rows, "tokens"),
        loss=column(rows, "loss"),
        flops=column(rows, "flops"),
        cluster=np.array([row["run"] for row in rows]),
    )


@pytest.mark.parametrize("train_set", GADRE)
def test_error_fit_is_that_of_the_authors(train_set):
    _, _, six = gadre_rows(train_set)
    assert len(six) == 6
    result = fit_metric(metric_rows(six), ERROR, "exponential", bootstrap=0)
    np.testing.assert_allclose(result.natural, GADRE[train_set][1], rtol=2e-5)


@pytest.mark.parametrize("train_set", GADRE)
def test_chained_errors_are_the_published_ones(train_set):
    rows, five, six = gadre_rows(train_set)
    (n, d, b, floor), _, (loss_error, metric_error) = GADRE[train_set]
    first = fit(points_of(five), law="tied", bootstrap=0, loss="least-squares")
    published = np.array([floor, n, d * 6 ** (-b / 2), b])
    names = list(first.parameters)
    values = dict(zip(("E", "A", "B", "alpha"), published, strict=True))
    from dataclasses import replace

    from scaling import Estimate

    stated = replace(
        first,
        parameters={name: Estimate(value=values[name], stderr=np.nan, interval=(np.nan, np.nan)) for name in names},
    )
    second = fit_metric(metric_rows(six), ERROR, "exponential", bootstrap=0)
    loss = np.array([_losses(stated, Target(params=float(r["params"]), data=float(r["tokens"])))[0] for r in rows])
    error = second.predict(loss)
    relative_loss = np.abs(loss / column(rows, "loss") - 1)
    relative_error = np.abs(error / column(rows, "err_avg17") - 1)
    assert 100 * relative_loss.mean() == pytest.approx(loss_error, abs=0.006)
    assert 100 * relative_error.mean() == pytest.approx(metric_error, abs=0.006)
    if train_set == "rpj":
        by_name = {r["run"]: i for i, r in enumerate(rows)}
        far, large = by_name["rpj-open_lm_1b-32.0"], by_name["rpj-open_lm_7b-1.0"]
        assert 100 * relative_loss[[far, large]] == pytest.approx([0.71, 0.73], abs=0.006)
        assert 100 * relative_error[[far, large]] == pytest.approx([3.6, 0.05], abs=0.05)


@pytest.mark.parametrize("train_set", GADRE)
def test_chain_from_six_runs_predicts_all_as_well_as_the_authors(train_set):
    rows, five, six = gadre_rows(train_set)
    targets = [Target(params=float(r["params"]), data=float(r["tokens"])) for r in rows]
    result = chain(points_of(five), metric_rows(six), ERROR, targets, law="tied", loss="least-squares", bootstrap=0)
    loss = np.array([each.loss for each in result.predictions])
    error = np.array([each.value for each in result.predictions])
    # Least squares on log loss where the authors took the loss itself: hundredths of a percent.
    assert 100 * np.abs(loss / column(rows, "loss") - 1).mean() == pytest.approx(GADRE[train_set][2][0], abs=0.02)
    assert 100 * np.abs(error / column(rows, "err_avg17") - 1).mean() == pytest.approx(GADRE[train_set][2][1], abs=0.04)
    assert result.shared == 5


def noisy(form: str, parameters, n=30, noise=0.01, seed=0, metric=SCORE):
    rng = np.random.default_rng(seed)
    loss = np.sort(rng.uniform(2.0, 5.0, n))
    value = get_form(form).evaluate(np.array([parameters]), loss)[0] + noise * rng.standard_normal(n)
    return MetricRows(loss=loss, value=metric.clip(value))


TRUE = {"linear": (1.1, -0.2), "logistic": (0.1, 0.95, 2.0, 3.4), "exponential": (0.05, -6.0, 1.1)}


@pytest.mark.parametrize("form", FORMS)
def test_no_other_optimiser_finds_a_lower_sum_of_squares(form):
    for seed in range(3):
        rows = noisy(form, TRUE[form], seed=seed)
        wide = Metric(name="score", direction="max", low=-10, high=10)
        ours = fit_metric(rows, wide, form, bootstrap=0)

        def squares(p, rows=rows):
            return float(np.sum((get_form(form).evaluate(np.array([p]), rows.loss)[0] - rows.value) ** 2))

        theirs = min(
            optimize.minimize(squares, start, method=method, options={"maxiter": 20000}).fun
            for start in (TRUE[form], np.array(TRUE[form]) * 0.9, ours.natural)
            for method in ("BFGS", "Nelder-Mead")
        )
        assert ours.squares <= theirs * (1 + 1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_noiseless_parameters_are_recovered(form):
    result = fit_metric(noisy(form, TRUE[form], noise=0.0), SCORE, form, bootstrap=0)
    np.testing.assert_allclose(result.natural, TRUE[form], rtol=1e-4)


def test_binomial_weights_solve_the_likelihood_equations():
    rng = np.random.default_rng(1)
    loss, trials = np.linspace(2, 5, 24), np.full(24, 60.0)
    share = get_form("logistic").evaluate(np.array([[0.0, 1.0, 2.0, 3.5]]), loss)[0]
    hits = rng.binomial(60, share)
    metric = Metric(name="score", direction="max", chance=0.0, ceiling=1.0)
    rows = MetricRows(loss=loss, value=hits / 60, trials=trials)
    ours = fit_metric(rows, metric, "logistic", weighting="binomial", bootstrap=0)

    def deviance(p):
        q = np.clip(get_form("logistic").evaluate(np.array([[0.0, 1.0, *p]]), loss)[0], 1e-12, 1 - 1e-12)
        return -float(np.sum(hits * np.log(q) + (60 - hits) * np.log1p(-q)))

    theirs = optimize.minimize(deviance, [2.0, 3.5], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    np.testing.assert_allclose(ours.natural[2:], theirs.x, rtol=2e-3)
    assert deviance(ours.natural[2:]) == pytest.approx(theirs.fun, rel=1e-5)


def test_chance_and_ceiling_are_constraints():
    metric = Metric(name="score", direction="max", chance=0.25, ceiling=1.0)
    rows = noisy("logistic", (0.25, 1.0, 2.0, 3.4), metric=metric)
    logistic = fit_metric(rows, metric, "logistic", bootstrap=20)
    assert logistic.natural[:2].tolist() == [0.25, 1.0] and logistic.free == 2
    assert fit_metric(rows, metric, "exponential", bootstrap=0).natural[0] == 0.25
    for form in FORMS:
        values = fit_metric(rows, metric, form, bootstrap=0).predict(np.linspace(0, 20, 50))
        assert values.min() >= 0.25 and values.max() <= 1.0


def test_error_has_its_chance_at_the_top():
    metric = Metric(name="error", direction="min", chance=0.8, ceiling=0.0)
    rows = noisy("logistic", (0.0, 0.8, -2.0, 3.4), metric=metric)
    assert fit_metric(rows, metric, "logistic", bootstrap=0).natural[:2].tolist() == [0.0, 0.8]
    assert fit_metric(rows, metric, "exponential", bootstrap=0).natural[0] == 0.8


@settings(max_examples=8, deadline=None)
@given(scale=st.floats(0.1, 50), shift=st.floats(-5, 5), stretch=st.floats(0.2, 5), seed=st.integers(0, 50))
def test_predictions_follow_a_change_of_units(scale, shift, stretch, seed):
    rows = noisy("linear", TRUE["linear"], seed=seed, noise=0.03)
    free = Metric(name="m", direction="max")
    other = MetricRows(loss=rows.loss * stretch, value=rows.value * scale + shift)
    for form in ("linear", "exponential"):
        a, b = fit_metric(rows, free, form, bootstrap=0), fit_metric(other, free, form, bootstrap=0)
        expected = a.predict(np.array([1.5, 3.0])) * scale + shift
        np.testing.assert_allclose(b.predict(np.array([1.5, 3.0]) * stretch), expected, rtol=1e-4, atol=1e-4 * scale)


def test_row_order_does_not_matter():
    rows = noisy("logistic", TRUE["logistic"])
    mixed = rows.take(np.random.default_rng(3).permutation(rows.n))
    for form in FORMS:
        a, b = (fit_metric(each, SCORE, form, bootstrap=30) for each in (rows, mixed))
        assert a.natural.tolist() == b.natural.tolist() and (a.draws == b.draws).all()


def test_the_form_that_extrapolates_is_chosen():
    for truth in ("linear", "exponential"):
        rows = noisy(truth, TRUE[truth], n=40, noise=0.003)
        free = Metric(name="m", direction="max", low=0, high=2)
        assert choose_form(rows, free, list(FORMS), bootstrap=0)[0].form == truth


def ladder(seed: int, noise: float = 0.004):
    """Runs on a chinchilla surface with luck of their own, and a logistic score of their loss."""
    rng = np.random.default_rng(seed)
    params, data = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 3e8, 5), np.geomspace(1e9, 3e10, 4)))
    params, data = np.append(params, 3e9), np.append(data, 3e11)
    loss = (1.7 + 400 / params**0.34 + 410 / data**0.28) * np.exp(noise * rng.standard_normal(len(params)))
    value = get_form("logistic").evaluate(np.array([[0.05, 0.95, 3.0, 2.7]]), loss)[0]
    return params, data, loss, np.clip(value + 0.015 * rng.standard_normal(len(loss)), 0, 1)


@pytest.mark.slow
def test_interval_of_the_chain_covers_new_runs():
    inside = []
    for seed in range(30):
        params, data, loss, value = ladder(seed)
        points = Points(params=params[:-1], data=data[:-1], loss=loss[:-1], flops=6 * params[:-1] * data[:-1])
        rows = MetricRows(loss=loss[:-1], value=value[:-1])
        metric = Metric(name="score", direction="max", chance=0.05, ceiling=0.95)
        target = [Target(params=params[-1], data=data[-1])]
        result = chain(points, rows, metric, target, form="logistic", bootstrap=100, loss="least-squares")
        low, high = result.predictions[0].interval
        inside.append(low <= value[-1] <= high)
    # 80 % of 30, within three binomial standard deviations.
    assert 0.58 <= np.mean(inside) <= 0.99


def test_chain_interval_holds_both_steps():
    params, data, loss, value = ladder(0)
    points = Points(params=params, data=data, loss=loss, flops=6 * params * data)
    rows = MetricRows(loss=loss, value=value, flops=6 * params * data)
    result = chain(
        points, rows, SCORE, [Target(params=1e10, data=1e12), Target(flops=1e22)], form="logistic", bootstrap=100
    )
    for each in result.predictions:
        low, high = each.interval
        inner = each.parameters_interval
        assert 0 <= low <= each.value <= high <= 1 and high - low >= inner[1] - inner[0]
        assert np.isfinite(each.direct) and each.direct_interval[0] < each.direct_interval[1]
    best = result.predictions[1].target
    assert best.params is not None and best.data is not None
    assert 6 * best.params * best.data == pytest.approx(1e22)
    assert {note.code for note in result.notices} == {"extrapolation"}
    assert result.to_json()["second"]["form"] == "logistic"


def test_checkpoints_and_foreign_runs_are_pointed_out():
    params, data, loss, value = ladder(0)
    runs = np.array([f"r{i // 3}" for i in range(len(loss))])
    points = Points(params=params, data=data, loss=loss, cluster=runs)
    rows = MetricRows(loss=loss, value=value, cluster=np.char.add("other", runs))
    notices = chain(points, rows, SCORE, [], form="linear", bootstrap=10, flops_per=6.0).notices
    assert {note.code for note in notices} == {"checkpoints", "different-runs"}


def test_sentences_about_the_data():
    loss = np.linspace(2, 5, 20)
    flat = MetricRows(loss=loss, value=0.5 + 0.01 * np.sin(7 * loss))
    worse = MetricRows(loss=loss, value=0.1 + 0.1 * loss)
    turn = MetricRows(loss=loss, value=0.8 - 0.1 * (loss - 3.4) ** 2)
    full = noisy("logistic", (0.1, 0.9, 8.0, 4.0), noise=0.002)
    few = MetricRows(loss=loss[:4], value=np.linspace(0.9, 0.5, 4))
    codes = [
        {note.code for note in examine(rows, choose_form(rows, SCORE, [form], bootstrap=0)[0])}
        for rows, form in ((flat, "linear"), (worse, "linear"), (turn, "linear"), (full, "logistic"), (few, "linear"))
    ]
    assert "no-signal" in codes[0] and "wrong-direction" in codes[1] and "non-monotone" in codes[2]
    assert codes[3] == {"saturated"} and codes[4] == {"few-runs"}


def test_bad_input_is_refused():
    rows = noisy("linear", TRUE["linear"])
    with pytest.raises(FitInputError, match="no form is called 'cubic'"):
        fit_metric(rows, SCORE, "cubic")
    with pytest.raises(FitInputError, match=r"chance 1\.0 and ceiling 0\.0 do not fit 'max'"):
        Metric(name="m", direction="max", chance=1.0, ceiling=0.0)
    with pytest.raises(FitInputError, match=r"value\[1\] is nan"):
        MetricRows(loss=np.array([1.0, 2.0]), value=np.array([1.0, np.nan]))
    with pytest.raises(FitInputError, match="different lengths: loss 2, value 1"):
        MetricRows(loss=np.array([1.0, 2.0]), value=np.array([1.0]))
    with pytest.raises(FitInputError, match="2 rows at 2 different loss values cannot determine the 4"):
        fit_metric(rows.take(np.arange(2)), SCORE, "logistic")
    with pytest.raises(FitInputError, match="needs the number of trials"):
        fit_metric(rows, SCORE, "linear", weighting="binomial")
    with pytest.raises(FitInputError, match="positive stderr of score in every row, and the least is 0"):
        zero = MetricRows(loss=rows.loss, value=rows.value, stderr=np.zeros(rows.n))
        fit_metric(zero, SCORE, "linear", weighting="stderr")
    points = Points(params=np.geomspace(1e7, 1e9, 30), data=np.geomspace(1e9, 1e12, 30)[::-1], loss=rows.loss)
    with pytest.raises(FitInputError, match="the target lacks data"):
        chain(points, rows, SCORE, [Target(params=1e9)], form="linear", bootstrap=0)

"""Joint laws and comparisons of variants: derivatives, known differences found, and what must not be found."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from scaling import FitInputError, Points, fit
from scaling.comparison import compare
from scaling.joint import joint
from scaling.laws import get_law
from scaling.losses import LEAST_SQUARES
from scaling.objective import value
from scaling.problem import pose, solve
from tests.scaling.conftest import EXAMPLE, points_of, read_rows
from tests.scaling.known_surface import TRUTH

SIZES, AMOUNTS = np.geomspace(1e7, 3e9, 6), np.geomspace(1e9, 1e11, 5)
MIDDLE = float(np.exp(np.log(SIZES).mean()))
CHANGES = {"A": {"A": 0.8}, "E": {"E": 0.95}, "alpha": {"alpha": 0.05}, "none": {}}


def loss_of(params: np.ndarray, data: np.ndarray, change: dict[str, float]) -> np.ndarray:
    """The known surface with E or A times a factor, or alpha turned about the middle of the sizes by a difference."""
    t = {**TRUTH, "A": TRUTH["A"] * change.get("A", 1.0), "E": TRUTH["E"] * change.get("E", 1.0)}
    turn = (params / MIDDLE) ** -change.get("alpha", 0.0)
    return t["E"] + t["A"] * params ** -t["alpha"] * turn + t["B"] * data ** -t["beta"]


def variants(change: str, noise: float, seed: int) -> tuple[Points, np.ndarray]:
    """A baseline and a variant on the same grid of 30 places."""
    params, data = (axis.ravel() for axis in np.meshgrid(SIZES, AMOUNTS))
    losses = [loss_of(params, data, {}), loss_of(params, data, CHANGES[change])]
    luck = np.exp(noise * np.random.default_rng(seed).standard_normal(2 * params.size))
    n, d = np.tile(params, 2), np.tile(data, 2)
    points = Points(params=n, data=d, flops=6 * n * d, loss=np.concatenate(losses) * luck)
    return points, np.repeat(["plain", "new"], params.size)


@pytest.mark.parametrize("vary", [(), ("A",), ("E", "alpha"), ("E", "A", "B", "alpha", "beta")])
def test_derivatives_of_a_joint_law(vary):
    points, labels = variants("A", 0.01, 0)
    base = pose(get_law("chinchilla"), points, LEAST_SQUARES, 6.0)
    law, x = joint(base.law, 2, vary), np.vstack([base.x, (labels == "new").astype(float)])
    rng = np.random.default_rng(1)
    theta = law.starts(x, base.y, base.w, 4) + 0.05 * rng.standard_normal((4, len(law.parameters)))
    at, weights = law.linearise(theta, x), rng.standard_normal((4, x.shape[1]))
    bend, step = at.curvature(weights), 1e-5
    assert at.value == pytest.approx(law.log_loss(theta, x), rel=1e-14)
    for i in range(theta.shape[1]):
        shift = step * np.eye(theta.shape[1])[i]
        slope = (law.log_loss(theta + shift, x) - law.log_loss(theta - shift, x)) / (2 * step)
        assert at.jacobian[:, i] == pytest.approx(slope, rel=1e-6, abs=1e-8)
        up, down = law.linearise(theta + shift, x).jacobian, law.linearise(theta - shift, x).jacobian
        assert bend[:, i] == pytest.approx(np.einsum("bpn,bn->bp", up - down, weights) / (2 * step), rel=1e-5, abs=1e-5)


def test_sharing_nothing_is_fitting_apart_and_sharing_all_is_fitting_together(example):
    sets = [example("rpj"), example("rw_original")]
    columns = {name: np.concatenate([getattr(each, name) for each in sets]) for name in ("params", "data", "loss")}
    result = compare(Points(**columns), np.repeat(["a", "b"], [each.n for each in sets]), bootstrap=0)
    rss = {each.vary: each.rss for each in result.candidates}
    apart = sum(fit(each, bootstrap=0, loss="least-squares").objective for each in sets)
    together = fit(Points(**columns), bootstrap=0, loss="least-squares").objective
    assert rss[tuple(TRUTH)] == pytest.approx(2 * apart, rel=1e-9)
    assert rss[()] == pytest.approx(2 * together, rel=1e-9)
    for wide, least in rss.items():
        assert all(least <= other * (1 + 1e-9) for narrow, other in rss.items() if set(narrow) < set(wide))


def test_no_general_optimiser_finds_a_better_joint_fit(example):
    points = example("rpj")
    both = Points(
        params=np.tile(points.params, 2),
        data=np.tile(points.data, 2),
        loss=np.concatenate([points.loss, example("rw_original").loss]),
    )
    base = pose(get_law("chinchilla"), both, LEAST_SQUARES, None)
    law = joint(base.law, 2, ("A", "alpha"))
    problem = replace(base, law=law, x=np.vstack([base.x, np.repeat([0.0, 1.0], points.n)]))
    best, rng = solve(problem), np.random.default_rng(0)
    assert best.converged
    (low, high), found = law.bounds, []
    for _ in range(20):
        start = rng.uniform(np.maximum(low, -5), np.minimum(high, 2))
        search = minimize(
            lambda theta: 1e3 * value(law, theta[None], problem.x, problem.y, problem.w, LEAST_SQUARES)[0],
            start,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
        )
        found.append(search.fun / 1e3)
    assert best.objective <= min(found) * (1 + 1e-9)


@pytest.mark.parametrize("change", ["A", "E", "alpha"])
def test_the_parameter_that_differs_is_found(change):
    points, labels = variants(change, 0.002, 2)
    result = compare(points, labels, baseline="plain", vary=("E", "A", "alpha"), bootstrap=300, level=0.99)
    assert result.selected.vary == (change,)
    assert result.selected.p_value < 1e-6
    (effect,) = result.effects
    true = next(iter(CHANGES[change].values()))
    assert effect.clear and effect.interval[0] < true < effect.interval[1]
    assert effect.kind == ("difference" if change == "alpha" else "ratio")
    assert effect.parameter in result.sentences[1] and "99% interval" in result.sentences[1]
    assert result.paired == result.n_clusters == 30


def test_the_same_law_twice_is_no_difference():
    points, labels = variants("none", 0.005, 3)
    result = compare(points, labels, vary=("E", "A", "alpha"), bootstrap=200)
    assert result.selected.vary == ()
    assert "No parameter of the law differs between new and plain" in result.sentences[0]
    (needs,) = result.equivalents
    assert needs.interval[0] < 1.0 < needs.interval[1]


def test_compute_for_equal_loss_is_where_the_frontiers_meet():
    points, labels = variants("A", 1e-5, 0)
    (needs,) = compare(points, labels, baseline="plain", vary=("A",), bootstrap=50).equivalents
    natural = np.array([list(TRUTH.values()), list({**TRUTH, "A": 0.8 * TRUTH["A"]}.values())])
    loss = get_law("chinchilla").frontier(natural, np.array([[needs.at], [needs.at * needs.ratio]]), 6.0)
    assert loss is not None
    assert needs.at == pytest.approx(6 * 3e9 * 1e11)
    assert loss[2][1, 0] == pytest.approx(loss[2][0, 0], rel=1e-4)
    assert needs.ratio < 0.9
    assert needs.interval[0] <= needs.ratio <= needs.interval[1]


def test_one_axis_laws_compare_along_their_axis():
    steps = np.geomspace(1e3, 1e6, 15)
    losses = np.concatenate([0.4 + 3 * steps**-0.3, 0.4 + 3 * (2 * steps) ** -0.3])
    luck = np.exp(1e-4 * np.random.default_rng(1).standard_normal(30))
    points, labels = Points(steps=np.tile(steps, 2), loss=losses * luck), np.repeat(["slow", "fast"], 15)
    result = compare(points, labels, law="power_floor:steps", baseline="slow", bootstrap=100)
    assert result.selected.vary == ("K",)
    (needs,) = result.equivalents
    assert (needs.axis, needs.at) == ("steps", pytest.approx(1e6))
    assert needs.ratio == pytest.approx(0.5, rel=0.02)


def test_units_and_row_order_do_not_matter():
    points, labels = variants("A", 0.003, 5)
    base = compare(points, labels, vary=("A", "alpha"), bootstrap=40)
    order = np.random.default_rng(0).permutation(points.n)
    shuffled = compare(points.take(order), labels[order], vary=("A", "alpha"), bootstrap=40)
    assert shuffled.to_json() == base.to_json()
    moved = Points(params=points.params / 1e6, data=points.data * 1e3, loss=points.loss * 7, flops=points.flops)
    scaled = compare(moved, labels, vary=("A", "alpha"), bootstrap=40)
    assert [each.vary for each in scaled.candidates] == [each.vary for each in base.candidates]
    assert [e.value for e in scaled.effects] == pytest.approx([e.value for e in base.effects], rel=1e-6)


def test_checkpoints_of_runs_are_not_independent():
    points, labels = variants("none", 0.003, 7)
    runs = [f"{label}-{size:.3g}" for label, size in zip(labels, points.params, strict=True)]
    result = compare(replace(points, cluster=np.array(runs)), labels, vary=("E", "A"), bootstrap=50)
    assert result.n_clusters == 6
    assert {notice.code for notice in result.notices} == {"rows-not-independent", "few-clusters"}


def test_published_training_sets():
    rows = read_rows(EXAMPLE)
    result = compare(
        points_of(rows), [row["train_set"] for row in rows], baseline="rpj", vary=("E", "A"), bootstrap=100
    )
    assert result.selected.vary == ("E",)
    assert {effect.variant: effect.clear for effect in result.effects} == {"c4_original": True, "rw_original": True}
    assert result.effects[0].value == pytest.approx(0.92788, rel=1e-4)
    assert result.paired == 34  # 33 places with all three sets, one with two
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["schema"] == 1 and document["candidates"][0]["vary"] == ["E"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"baseline": "plane"}, "no variant is called 'plane': valid: new, plain"),
        ({"vary": ("gamma",)}, "no parameter gamma: valid: E, A, B, alpha, beta"),
        ({"law": "chinchila"}, "did you mean 'chinchilla'"),
        ({"level": 8.0}, "level is 8"),
    ],
)
def test_bad_options(options, words):
    points, labels = variants("none", 0.01, 0)
    with pytest.raises(FitInputError, match=words):
        compare(points, labels, **options)


def test_too_little_to_compare():
    points, labels = variants("none", 0.01, 0)
    with pytest.raises(FitInputError, match="all points are of one variant"):
        compare(points, ["a"] * points.n)
    with pytest.raises(FitInputError, match="they must match"):
        compare(points, labels[:-1])
    few = np.r_[0:30, 30:33]
    with pytest.raises(FitInputError, match="variant 'new' has 3 points for 5 parameters"):
        compare(points.take(few), labels[few])


@pytest.mark.slow
def test_error_rates_are_nominal():
    """Under no difference the F test rejects at its level; under one, intervals hold the truth at theirs."""
    rejected, held = 0, 0
    for seed in range(20):
        points, labels = variants("none", 0.005, 100 + seed)
        candidates = compare(points, labels, vary=("E", "A", "alpha"), bootstrap=0).candidates
        rejected += next(each.p_value for each in candidates if len(each.vary) == 3) < 0.1
        points, labels = variants("A", 0.005, 500 + seed)
        (effect,) = compare(points, labels, baseline="plain", vary=("A",), bootstrap=200).effects
        held += effect.interval[0] < 0.8 < effect.interval[1]
    assert rejected <= 6  # 2 expected; more than 6 with probability 0.2 %
    assert held >= 11  # 16 expected; fewer than 11 with probability 0.3 %

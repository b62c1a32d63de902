"""Published tables: the true optimum, to all digits that two independent routes agree on."""

from __future__ import annotations

import pytest

from scaling import fit

# objective, A, B, E, alpha, beta; found by batched Newton and by differential evolution, which agree to 1e-12
OPTIMA = {
    "chinchilla in_fit": (
        ("chinchilla_epoch", {"in_fit": "True"}),
        (1.01827402e-03, 477.83, 2143.4, 1.81722, 0.34731, 0.36717),
    ),
    "chinchilla all": (("chinchilla_epoch", {}), (1.82601052e-03, 495.73, 12846, 1.89134, 0.34931, 0.45305)),
    "llama3 all": (("isoflops_llama3", {}), (3.90467846e-04, 38.329, 160.23, 0.59419, 0.28352, 0.31566)),
    "llama3 inliers": (
        ("isoflops_llama3", {"outlier": "False"}),
        (2.75946212e-04, 62.825, 192.85, 0.61139, 0.31372, 0.32535),
    ),
    "misfitting all": (("isoflops_misfitting", {}), (1.72964176e-03, 35989, 1.5796e6, 2.69155, 0.61021, 0.70479)),
    "misfitting inliers": (
        ("isoflops_misfitting", {"outlier": "False"}),
        (4.48305658e-04, 1.0541e5, 1.2442e6, 2.69086, 0.66858, 0.69214),
    ),
    "rpj openlm": (
        ("overtraining", {"train_set": "rpj", "eval_set": "openlm"}),
        (6.12917817e-04, 263.85, 1015.4, 1.32206, 0.29513, 0.32780),
    ),
}
EXAMPLE_OPTIMA = {
    "c4_original": (5.29954130e-04, 122.55, 242.61, 1.62002, 0.25257, 0.26223),
    "rpj": (4.26510827e-04, 106.09, 297.98, 1.72024, 0.24308, 0.27301),
    "rw_original": (4.75725502e-04, 76.774, 384.16, 1.70134, 0.22259, 0.28977),
}


def assert_optimum(result, expected):
    objective, a, b, e, alpha, beta = expected
    assert result.objective == pytest.approx(objective, rel=6e-9)  # all printed digits
    assert result.status == "converged"
    got = result.parameters
    assert got["A"].value == pytest.approx(a, rel=5e-5)
    assert got["B"].value == pytest.approx(b, rel=5e-5)
    assert got["E"].value == pytest.approx(e, abs=6e-6)
    assert got["alpha"].value == pytest.approx(alpha, abs=6e-6)
    assert got["beta"].value == pytest.approx(beta, abs=6e-6)


@pytest.mark.parametrize("name", OPTIMA)
def test_published_optimum(name, published):
    (table, equal), expected = OPTIMA[name]
    assert_optimum(fit(published(table, **equal), bootstrap=0), expected)


@pytest.mark.parametrize("train_set", EXAMPLE_OPTIMA)
def test_shipped_example_optimum(train_set, example):
    assert_optimum(fit(example(train_set), bootstrap=0), EXAMPLE_OPTIMA[train_set])


def test_chinchilla_objective_to_nine_digits(published):
    result = fit(published("chinchilla_epoch", in_fit="True"), bootstrap=0)
    assert result.objective == pytest.approx(0.0010182740178, rel=1e-10)


def test_chinchilla_allocation(published):
    result = fit(published("chinchilla_epoch", in_fit="True"), bootstrap=0)
    params, data, loss = result.frontier([1e21, 5.76e23])
    assert params == pytest.approx([2.792e9, 7.319e10], rel=2e-4)
    assert data == pytest.approx([5.97e10, 1.312e12], rel=5e-4)
    assert loss == pytest.approx([2.3045, 1.9739], abs=6e-5)
    assert result.compute_optimal["params_exponent"].value == pytest.approx(0.51390, abs=6e-6)


def test_held_out_large_runs_of_the_example_fall_inside_their_intervals(example):
    """Fitted on runs below 5e20 FLOPs, three RedPajama runs of up to 23 times that are predicted to 1.3 %."""
    points = example("rpj")
    large = points.flops > 5e20
    result = fit(points.take(~large))
    predicted = result.predict(points.params[large], points.data[large])
    low, high = result.predict_interval(points.params[large], points.data[large])
    assert predicted == pytest.approx(points.loss[large], rel=0.013)
    assert ((low < points.loss[large]) & (points.loss[large] < high)).all()

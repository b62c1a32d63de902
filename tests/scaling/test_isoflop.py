"""isoFLOP profiles: published tables, exact cases, and what is flagged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scaling import FitInputError, Points
from scaling.budgets import group
from scaling.frontier import Frontier
from scaling.isoflop import isoflop
from tests.scaling.known_surface import TRUTH, surface

NOMINAL = (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21)

# table, filter, budgets used, of these bracketed, exponent of N*, exponent of D*
PUBLISHED = (
    ("chinchilla_epoch", {}, 9, 8, 0.4976, 0.5054),
    ("chinchilla_epoch", {"in_fit": "True"}, 9, 8, 0.5134, 0.4879),
    ("isoflops_llama3", {}, 10, 10, 0.4632, 0.5368),
    ("isoflops_llama3", {"outlier": "False"}, 8, 8, 0.5000, 0.5000),
    ("isoflops_misfitting", {}, 21, 19, 0.5064, 0.4936),
    ("isoflops_misfitting", {"outlier": "False"}, 14, 14, 0.5234, 0.4766),
)


def profiles(budgets: np.ndarray, sizes: int = 7, reach: float = 1.0, shift: float = 0.0) -> Points:
    """Runs on the known surface: at every budget, sizes from 10^-reach to 10^reach times the optimum."""
    a = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    g = (TRUTH["alpha"] * TRUTH["A"] / (TRUTH["beta"] * TRUTH["B"])) ** (1 / (TRUTH["alpha"] + TRUTH["beta"]))
    flops = np.repeat(budgets, sizes)
    params = g * (flops / 6) ** a * 10 ** (shift + np.tile(np.linspace(-reach, reach, sizes), len(budgets)))
    data = flops / (6 * params)
    return Points(params=params, data=data, loss=surface(params, data), flops=flops)


@pytest.mark.parametrize("table, rows, used, bracketed, a, b", PUBLISHED)
def test_published_exponents(
    published: Callable[..., Points], table: str, rows: dict[str, str], used: int, bracketed: int, a: float, b: float
) -> None:
    budgets = NOMINAL if table == "chinchilla_epoch" else None
    found = isoflop(published(table, **rows), budgets=budgets, bootstrap=0)
    taken = [optimum for optimum in found.optima if optimum.used]
    assert (len(taken), sum("outside" not in optimum.flags for optimum in taken)) == (used, bracketed)
    assert f"{found.params_exponent.value:.4f} {found.data_exponent.value:.4f}" == f"{a:.4f} {b:.4f}"


@pytest.mark.parametrize(
    "table, rows, floor, k_at, gamma, rss, power, rss_power",
    [
        ("isoflops_llama3", {}, "0.5741", "0.2219", "0.1371", "1.033e-05", "-0.03572", "8.303e-04"),
        (
            "isoflops_misfitting",
            {"outlier": "False"},
            "2.0921",
            "0.6808",
            "0.1819",
            "6.930e-05",
            "-0.06975",
            "1.582e-04",
        ),
    ],
)
def test_published_frontier(
    published: Callable[..., Points],
    table: str,
    rows: dict[str, str],
    floor: str,
    k_at: str,
    gamma: str,
    rss: str,
    power: str,
    rss_power: str,
) -> None:
    with_floor, without = isoflop(published(table, **rows), bootstrap=0).loss_laws
    values = {name: each.value for name, each in with_floor.parameters.items()}
    at = values["K"] * 1e20 ** -values["g"]
    assert (f"{values['E']:.4f}", f"{at:.4f}", f"{values['g']:.4f}") == (floor, k_at, gamma)
    assert (f"{with_floor.log_rss:.3e}", f"{without.log_rss:.3e}") == (rss, rss_power)
    assert f"{-without.parameters['g'].value:.5f}" == power


def test_snapping_keeps_the_rows_of_the_published_table(published: Callable[..., Points]) -> None:
    every, kept = published("chinchilla_epoch"), published("chinchilla_epoch", in_fit="True")
    assert every.flops is not None and kept.flops is not None
    assert int((group(every.flops, NOMINAL).codes >= 0).sum()) == 129
    assert int((group(kept.flops, NOMINAL).codes >= 0).sum()) == 124
    found = group(every.flops).flops
    assert all(np.abs(np.log(found / budget)).min() < 0.12 for budget in NOMINAL)


def test_a_parabola_in_log_n_is_met_exactly() -> None:
    flops = np.repeat([1e18, 1e19, 1e20], 5)
    best = 1e8 * (flops / 1e19) ** 0.4
    params = best * np.tile([0.3, 0.6, 1.1, 2.0, 5.0], 3)
    loss = 2.0 + (flops / 1e19) ** -0.1 + 0.05 * np.log(params / best) ** 2
    found = isoflop(Points(params=params, data=flops / (6 * params), loss=loss, flops=flops), bootstrap=50)
    assert found.params_exponent.value == pytest.approx(0.4, abs=1e-9)
    assert found.data_exponent.value == pytest.approx(0.6, abs=1e-9)
    assert [optimum.params for optimum in found.optima] == pytest.approx(np.unique(best), rel=1e-9)
    assert found.params_exponent.interval == pytest.approx((0.4, 0.4), abs=1e-7)
    parameters = {name: each.value for name, each in found.loss_laws[0].parameters.items()}
    assert parameters["E"] == pytest.approx(2.0, abs=1e-4) and parameters["g"] == pytest.approx(0.1, abs=1e-4)
    params_at, data_at = found.at(1e21)
    assert params_at.value * data_at.value * 6 == pytest.approx(1e21, rel=1e-9)
    assert params_at.value == pytest.approx(1e8 * 100**0.4, rel=1e-9)


def test_a_cubic_follows_the_skew_that_moves_a_parabola() -> None:
    points = profiles(np.geomspace(1e18, 1e21, 4), sizes=9)
    truth = TRUTH["A"], TRUTH["alpha"], TRUTH["B"], TRUTH["beta"]
    errors = {}
    for degree in (2, 3):
        found = isoflop(points, degree=degree, bootstrap=0, scale="log")
        best = [optimum.params for optimum in found.optima]
        a, alpha, b, beta = truth
        exact = [
            (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (optimum.flops / 6) ** (beta / (alpha + beta))
            for optimum in found.optima
        ]
        errors[degree] = float(np.abs(np.log(np.array(best) / exact)).max())
    assert errors[3] < 0.5 * errors[2]


def test_budgets_that_cannot_be_used_are_flagged_and_left_out() -> None:
    good = profiles(np.geomspace(1e18, 1e21, 4))
    few = profiles(np.array([1e22]), sizes=3)
    beside = profiles(np.array([1e23]), sizes=5, reach=0.2, shift=-0.8)
    hill = Points(
        params=np.geomspace(1e9, 1e11, 5),
        data=1e24 / 6 / np.geomspace(1e9, 1e11, 5),
        loss=np.array([2.0, 2.1, 2.2, 2.1, 2.0]),
        flops=np.full(5, 1e24),
    )
    parts = (good, few, beside, hill)
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in ("params", "data", "loss", "flops")}
    found = isoflop(Points(**columns), bootstrap=0)
    flags = {f"{optimum.flops:.0e}": optimum.flags for optimum in found.optima if optimum.flags}
    assert flags == {"1e+22": ("few-sizes",), "1e+23": ("outside",), "1e+24": ("no-minimum",)}
    assert [optimum.used for optimum in found.optima] == [True] * 4 + [False, True, False]
    assert {notice.code for notice in found.notices} >= {"few-sizes", "outside", "no-minimum"}
    strict = isoflop(Points(**columns), bootstrap=0, bracketed_only=True)
    assert strict.params_exponent.value == pytest.approx(isoflop(good, bootstrap=0).params_exponent.value, abs=1e-12)


def test_duplicates_count_once() -> None:
    rng = np.random.default_rng(0)
    points = profiles(np.geomspace(1e18, 1e21, 4))
    noisy = Points(
        params=points.params,
        data=points.data,
        loss=points.loss * np.exp(0.01 * rng.standard_normal(points.n)),
        flops=points.flops,
    )
    twice = noisy.take(np.concatenate([np.arange(noisy.n), np.arange(5)]))
    assert _line(isoflop(twice, bootstrap=0)) == pytest.approx(_line(isoflop(noisy, bootstrap=0)), abs=1e-12)
    near = Points(
        params=twice.params * np.where(np.arange(twice.n) >= noisy.n, 1.002, 1.0),
        data=twice.data,
        loss=twice.loss,
        flops=twice.flops,
    )
    merged = isoflop(near, bootstrap=0, merge=0.01)
    assert [optimum.n_rows for optimum in merged.optima] == [7, 7, 7, 7]
    assert _line(merged) == pytest.approx(_line(isoflop(noisy, bootstrap=0)), abs=1e-3)


def _line(found: Frontier) -> tuple[float, float]:
    return found.params_exponent.value, found.data_exponent.value


@pytest.mark.parametrize("resampling", ["wild", "rows"])
def test_intervals_cover_the_estimate_without_noise_at_about_their_level(resampling: str) -> None:
    budgets, rng = np.geomspace(1e18, 1e21, 5), np.random.default_rng(1)
    clean = profiles(budgets, sizes=9, reach=0.6)
    target = isoflop(clean, bootstrap=0).params_exponent.value
    hits = 0
    for seed in range(24):
        loss = clean.loss * np.exp(0.003 * rng.standard_normal(clean.n))
        noisy = Points(params=clean.params, data=clean.data, loss=loss, flops=clean.flops)
        low, high = isoflop(noisy, bootstrap=60, resampling=resampling, seed=seed).params_exponent.interval
        hits += low <= target <= high
    assert 14 <= hits <= 23  # 80 % of 24 are 19; 14 is 2.6 standard errors below


def test_row_order_does_not_matter() -> None:
    points = profiles(np.geomspace(1e18, 1e21, 3))
    shuffled = points.take(np.random.default_rng(3).permutation(points.n))
    one, other = (isoflop(each, bootstrap=40) for each in (points, shuffled))
    assert one == other and np.array_equal(one.lines, other.lines)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"degree": 4}, "degree is 4"),
        ({"scale": "sqrt"}, "no scale"),
        ({"resampling": "pairs"}, "no resampling"),
        ({"merge": 0.7}, "merge is 0.7"),
        ({"tolerance": 2.0}, "tolerance is 2.0"),
        ({"budgets": [5e30]}, "no budget"),
        ({"budgets": [-1.0]}, "positive number"),
        ({"budgets": [1e18]}, "fewer than two budgets"),
        ({"level": 1.5}, "level is 1.5"),
    ],
)
def test_bad_options_say_what_would_be_right(options: dict[str, object], message: str) -> None:
    with pytest.raises(FitInputError, match=message):
        isoflop(profiles(np.geomspace(1e18, 1e21, 4)), **options)  # pyright: ignore[reportArgumentType]
    points = profiles(np.geomspace(1e18, 1e21, 4))
    with pytest.raises(FitInputError, match="flops column"):
        isoflop(Points(params=points.params, data=points.data, loss=points.loss))

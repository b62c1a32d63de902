"""Next runs: exact cases of the linear algebra, brute force, budgets, and what is flagged."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from scaling import FitInputError, FitResult, Points, fit
from scaling.design import Candidates, largest_run, repeats, suggest
from tests.scaling.known_surface import surface

SIZES, LENGTHS = np.array([1e7, 4e7, 1.6e8, 6.4e8]), np.array([1e8, 1e9, 1e10])
TARGET = (1e10, 2e11, 6 * 1e10 * 2e11)


def study(sizes: np.ndarray = SIZES, noise: float = 0.005, seed: int = 0) -> FitResult:
    """A fit of runs on the known surface."""
    params, data = np.repeat(sizes, len(LENGTHS)), np.tile(LENGTHS, len(sizes))
    loss = surface(params, data) * np.exp(noise * np.random.default_rng(seed).standard_normal(params.size))
    return fit(Points(params=params, data=data, loss=loss, flops=6 * params * data), bootstrap=300, law="tied")


def candidates(sizes: np.ndarray = SIZES, lengths: np.ndarray = LENGTHS, fitted: np.ndarray = SIZES) -> Candidates:
    """Every size with every length."""
    params, data = np.repeat(sizes, len(lengths)), np.tile(lengths, len(sizes))
    known = np.isin(params, fitted) & np.isin(data, LENGTHS)
    return Candidates(params=params, data=data, flops=6 * params * data, fitted=known, labels=("",) * len(params))


@pytest.fixture(scope="module")
def result() -> FitResult:
    """The fit that most tests use."""
    return study()


def test_the_worth_of_one_run_is_the_regression_of_the_target_on_it(result: FitResult) -> None:
    one = Candidates(
        params=np.array([2e9]), data=np.array([1e10]), flops=np.array([1e20]), fitted=np.array([False]), labels=("a",)
    )
    # Resamples without outliers, none of which is then drawn in.
    tame = result.values * np.exp(0.01 * np.random.default_rng(1).uniform(-1.0, 1.0, (300, 4)))
    result = replace(result, draws=tame)
    found = suggest(result, one, TARGET, 1e20, sizes=SIZES, most_runs=1)
    floor, a, b, alpha = result.draws.T
    here, there = (np.log(floor + a * n**-alpha + b * d**-alpha) for n, d in ((2e9, 1e10), TARGET[:2]))
    noise = (1.4826 * np.median(np.abs(result.residuals))) ** 2 + result.run_noise**2
    assert max(abs(x - np.median(x)).max() / np.median(abs(x - np.median(x))) / 1.4826 for x in (here, there)) < 4
    left = there.var(ddof=1) - np.cov(here, there)[0, 1] ** 2 / (here.var(ddof=1) + noise)
    assert (found.width_after / found.width_before) ** 2 == pytest.approx(left / there.var(ddof=1), rel=1e-9)


def test_greedy_and_exchange_come_close_to_every_set_tried(result: FitResult) -> None:
    pool = candidates(lengths=np.array([1e9, 1e10]))
    budget = 5e19
    found = suggest(result, pool, TARGET, budget, sizes=SIZES, most_runs=3)
    widths = []
    for count in (1, 2, 3):
        for chosen in itertools.combinations_with_replacement(range(len(pool.params)), count):
            if pool.flops[list(chosen)].sum() <= budget:
                few = replace(
                    pool,
                    params=pool.params[list(chosen)],
                    data=pool.data[list(chosen)],
                    flops=np.full(count, budget / 3),
                    fitted=pool.fitted[list(chosen)],
                    labels=("",) * count,
                )
                widths.append(suggest(result, few, TARGET, budget, sizes=SIZES, most_runs=3).width_after)
    assert found.width_after <= min(widths) * 1.02


def test_budget_order_and_bookkeeping(result: FitResult) -> None:
    pool = candidates(np.geomspace(1e7, 4e9, 8), np.geomspace(1e8, 1e11, 8))
    pool = replace(pool, fitted=np.zeros(64, dtype=bool))
    found = suggest(result, pool, TARGET, 1e20, sizes=SIZES)
    assert 1 <= len(found.runs) <= 12 and found.spent <= 1e20
    assert found.spent == pytest.approx(sum(run.flops for run in found.runs))
    assert [run.flops for run in found.runs] == sorted(run.flops for run in found.runs)
    assert found.runs[0].width_before == found.width_before and found.runs[-1].width_after == found.width_after
    assert all(run.width_after < run.width_before for run in found.runs)
    more = suggest(result, pool, TARGET, 1e21, sizes=SIZES)
    assert more.width_after <= found.width_after
    assert all(found.width_after <= other.width_after for other in found.alternatives)
    assert len(suggest(result, pool, TARGET, 1e20, sizes=SIZES, most_runs=2).runs) <= 2


def test_a_noisy_place_is_repeated_and_marked() -> None:
    noisy = study(noise=0.05)
    one = candidates(np.array([6.4e8]), np.array([1e10]))
    found = suggest(noisy, one, TARGET, 4 * float(one.flops[0]), sizes=SIZES)
    assert len(found.runs) > 1 and all(run.repeat and not run.new_size for run in found.runs)


def test_few_sizes_bring_a_new_one() -> None:
    few = study(SIZES[:3])
    pool = candidates(np.append(SIZES[:3], 2.0e8), LENGTHS, fitted=SIZES[:3])
    found = suggest(few, pool, TARGET, 1e20, sizes=SIZES[:3])
    assert any(run.new_size for run in found.runs)
    assert "new-size" in {notice.code for notice in found.notices}


def test_other_uses_of_a_budget() -> None:
    pool = candidates()
    assert pool.flops[list(largest_run(pool, 1e18, 10.0))][0] == pool.flops[pool.flops <= 1e18].max()
    again = repeats(pool, 1e18)
    assert pool.fitted[list(again)].all() and pool.flops[list(again)].sum() <= 1e18
    assert 1e18 - pool.flops[list(again)].sum() < pool.flops.min()
    none = replace(pool, fitted=np.zeros(len(pool.params), dtype=bool))
    assert repeats(none, 1e18) == ()


def test_flags(result: FitResult) -> None:
    cheap = (1e9, 1e10, 6e19)
    assert "target-affordable" in {n.code for n in suggest(result, candidates(), cheap, 1e20, sizes=SIZES).notices}
    poor = candidates(SIZES[:1], LENGTHS[:1])
    assert "little-to-gain" in {n.code for n in suggest(result, poor, TARGET, 1e16, sizes=SIZES, most_runs=1).notices}


def test_bad_input_says_what_would_be_right(result: FitResult) -> None:
    with pytest.raises(FitInputError, match="at least 100"):
        suggest(replace(result, draws=result.draws[:10]), candidates(), TARGET, 1e20)
    with pytest.raises(FitInputError, match="budget is -1"):
        suggest(result, candidates(), TARGET, -1.0)
    with pytest.raises(FitInputError, match="cheapest candidate"):
        suggest(result, candidates(), TARGET, 1e10)
    with pytest.raises(FitInputError, match="at least 1"):
        suggest(result, candidates(), TARGET, 1e20, most_runs=0)

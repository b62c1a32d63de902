"""Samples that come as often as their weight says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prx_scale.data.batchplan import BatchPlan
from prx_scale.data.orders import ShuffledOrder
from prx_scale.data.weighted import WeightedOrder

STARTS = np.array([0, 7, 30])


def made(count: int, seed: int) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    draws = np.random.default_rng(seed)
    weights = draws.choice([0.0, 0.1, 0.5, 1.0, 2.4, 7.0], count).astype(np.float32)
    return draws.integers(-1, 3, count).astype(np.int16), weights


def order(buckets: NDArray[np.int16], weights: NDArray[np.float32], seed: int = 0) -> WeightedOrder:
    return WeightedOrder(buckets, weights, 3, seed=seed, starts=STARTS)


def test_every_sample_has_had_its_share_to_within_one() -> None:
    buckets, weights = made(60, 0)
    weighted = order(buckets, weights)
    usable = buckets >= 0
    total = float(weights[usable].sum())
    for epochs in (1, 2, 10, 40):
        seen = weighted.stretch(0, int(weighted._until(epochs).sum())).samples  # pyright: ignore[reportPrivateUsage]
        counts = np.bincount(seen, minlength=60)
        assert not counts[~usable].any()
        assert np.abs(counts - weights * epochs)[usable].max() <= 1 + 1e-5
        assert len(seen) == pytest.approx(total * epochs, abs=30)


def test_weights_of_one_are_no_weights() -> None:
    buckets, _ = made(60, 1)
    plain = ShuffledOrder(buckets, 3, seed=5, stage=2, starts=STARTS)
    ones = WeightedOrder(buckets, np.ones(60, dtype=np.float32), 3, seed=5, stage=2, starts=STARTS)
    assert np.array_equal(plain.stretch(0, 500).samples, ones.stretch(0, 500).samples)
    assert (ones.length, ones.before(321).tolist()) == (plain.length, plain.before(321).tolist())


@given(seed=st.integers(0, 1000), start=st.integers(0, 400), length=st.integers(0, 200))
def test_any_stretch_is_that_of_the_whole(seed: int, start: int, length: int) -> None:
    buckets, weights = made(50, seed)
    if not weights[buckets >= 0].any():
        return
    whole = order(buckets, weights, seed).stretch(0, 600)
    part = order(buckets, weights, seed).stretch(start, start + length)
    assert np.array_equal(part.samples, whole.samples[start : start + length])
    counted = np.bincount(whole.buckets[:start], minlength=3)
    assert order(buckets, weights, seed).before(start).tolist() == counted.tolist()
    only = np.array([True, False, True])
    some = order(buckets, weights, seed).stretch(start, start + length, only)
    assert np.array_equal(some.samples, part.samples[only[part.buckets]])


def test_batches_of_any_step_are_those_of_going_there() -> None:
    buckets, weights = made(90, 3)
    plan = BatchPlan(order(buckets, weights), 4)
    going = [plan.at(step) for step in range(120)]
    for step in (0, 17, 63, 119):
        there = BatchPlan(order(buckets, weights), 4).at(step)
        assert (there.bucket, there.samples.tolist()) == (going[step].bucket, going[step].samples.tolist())


def test_rare_samples_alone_leave_epochs_empty() -> None:
    weighted = WeightedOrder(np.zeros(2, dtype=np.int16), np.full(2, 0.01, dtype=np.float32), 1, seed=0)
    seen = weighted.stretch(0, 20).samples
    assert np.bincount(seen).tolist() == [10, 10]


def test_no_weight_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="a weight above 0"):
        order(np.zeros(3, dtype=np.int16), np.zeros(3, dtype=np.float32))

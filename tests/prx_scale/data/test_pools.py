"""Batches out of several pools."""

from __future__ import annotations

import numpy as np
import pytest

from prx_scale.data.pools import Pool, PooledBatches


def assigned(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 3, count).astype(np.int16)


def test_a_mix_keeps_its_shares_and_sees_every_sample_of_a_pool_before_any_again() -> None:
    buckets = [assigned(300, 0), assigned(60, 1)]
    pools = [Pool(assigned=buckets[0], weight=3), Pool(assigned=buckets[1], weight=1)]
    batches = PooledBatches(pools, 3, seed=7, order=2, batch=8)
    seen: list[list[int]] = [[], []]
    for step in range(40):
        batch = batches.at(step)
        for pool, number in zip(batch.pools.tolist(), batch.numbers.tolist(), strict=True):
            assert buckets[pool][number] == batch.bucket
            seen[pool].append(number)
    assert len(seen[0]) / 320 == pytest.approx(0.75, abs=0.05)
    # What waits for a batch of its bucket is late, by less than a batch a bucket.
    usable = buckets[1] >= 0
    counts = np.bincount(seen[1], minlength=60)[usable]
    assert np.count_nonzero(counts == 0) <= 3 * 7
    assert counts.max() <= -(-len(seen[1]) // len(counts)) + 1


def test_a_pool_by_itself_is_in_the_order_of_its_own_and_any_step_can_be_asked_for() -> None:
    pool = Pool(assigned=assigned(200, 3))
    batches = PooledBatches([pool], 3, seed=1, order=0, batch=4)
    ahead = [batches.at(step).numbers.tolist() for step in range(90)]
    assert PooledBatches([pool], 3, seed=1, order=0, batch=4).at(70).numbers.tolist() == ahead[70]
    assert not batches.at(3).pools.any()


def test_pools_of_the_same_samples_come_in_orders_of_their_own() -> None:
    pool = Pool(assigned=np.zeros(100, dtype=np.int16))
    batches = PooledBatches([pool, pool], 1, seed=1, order=0, batch=10)
    parts = [batches.at(step) for step in range(10)]
    first, second = (np.concatenate([part.numbers[part.pools == pool] for part in parts]) for pool in (0, 1))
    assert first.tolist() != second.tolist()


def test_samples_of_a_pool_come_as_often_as_they_weigh() -> None:
    weights = np.array([0, 1, 3, 0.5] * 10, dtype=np.float32)
    pool = Pool(assigned=np.zeros(40, dtype=np.int16), weights=weights)
    batches = PooledBatches([pool], 1, seed=1, order=0, batch=5)
    seen = np.bincount(np.concatenate([batches.at(step).numbers for step in range(90)]), minlength=40)
    assert seen.sum() == 450 and np.abs(seen - 10 * weights).max() <= 3  # ten epochs of 45, about

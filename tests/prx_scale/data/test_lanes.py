"""The order of samples: each once an epoch, in an order that chance could have made, read in few places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prx_scale.data.lanes import LaneOrder, shuffled

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)


def seen(order: LaneOrder, start: int, stop: int) -> list[tuple[int, int]]:
    shards, places = order.places(np.arange(start, stop, dtype=np.int64))
    return list(zip(shards.tolist(), places.tolist(), strict=True))


def everything(counts: list[int]) -> list[tuple[int, int]]:
    return [(shard, place) for shard, count in enumerate(counts) for place in range(count)]


@given(COUNTS, st.integers(0, 2**62), st.integers(1, 9), st.integers(1, 50), st.integers(0, 5))
def test_every_epoch_has_every_sample_once(counts: list[int], seed: int, lanes: int, window: int, epoch: int) -> None:
    order = LaneOrder(counts=counts, seed=seed, lanes=lanes, window=window)
    start = epoch * order.total
    assert sorted(seen(order, start, start + order.total)) == everything(counts)


@given(COUNTS, st.integers(0, 2**62), st.integers(1, 9), st.integers(1, 50), st.data())
def test_a_place_depends_on_its_position_alone(
    counts: list[int], seed: int, lanes: int, window: int, data: st.DataObject
) -> None:
    order = LaneOrder(counts=counts, seed=seed, lanes=lanes, window=window)
    asked = data.draw(st.lists(st.integers(0, 4 * order.total), min_size=1, max_size=30))
    shards, places = LaneOrder(counts=counts, seed=seed, lanes=lanes, window=window).places(np.array(asked))
    row = seen(order, 0, 4 * order.total + 1)
    assert [row[position] for position in asked] == list(zip(shards.tolist(), places.tolist(), strict=True))


@given(st.integers(1, 3000), st.integers(0, 2**63))
def test_shuffling_is_a_permutation(size: int, key: int) -> None:
    index = np.arange(size, dtype=np.int64)
    found = shuffled(index, np.full(size, size), np.full(size, key, dtype=np.uint64))
    assert sorted(found.tolist()) == index.tolist()


def chi_square(table: np.ndarray) -> float:
    """Standardised chi-square of counts that should all be equal: about standard normal if they are."""
    expected, freedom = table.mean(), table.size - 1
    return float((((table - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("size", [3, 10, 64, 100])
def test_shuffling_looks_like_chance(size: int) -> None:
    keys = np.repeat(np.arange(4000, dtype=np.uint64) * np.uint64(7919), size)
    index = np.tile(np.arange(size, dtype=np.int64), 4000)
    found = shuffled(index, np.full_like(index, size), keys).reshape(4000, size)
    # Where each number goes, and which number comes right after which.
    places = np.stack([np.bincount(column, minlength=size) for column in found.T])
    assert abs(chi_square(places)) < 5
    steps = np.bincount((found[:, 1:] - found[:, :-1]).ravel() + size, minlength=2 * size)
    chance = np.array([0.0 if step == 0 else (size - abs(step)) / (size * (size - 1)) for step in range(-size, size)])
    expected = chance * found[:, 1:].size
    used = expected > 5
    away = ((steps - expected)[used] ** 2 / expected[used]).sum()
    assert abs(away - used.sum()) < 6 * np.sqrt(2 * used.sum())
    assert steps[size] == 0


def test_every_permutation_of_a_few_is_as_likely() -> None:
    index, times = np.tile(np.arange(4, dtype=np.int64), 12_000), 12_000
    keys = np.repeat(np.arange(times, dtype=np.uint64), 4)
    found = shuffled(index, np.full_like(index, 4), keys).reshape(times, 4)
    codes = found @ np.array([64, 16, 4, 1])
    assert len(np.unique(codes)) == 24 and abs(chi_square(np.unique(codes, return_counts=True)[1])) < 5


def test_epochs_seeds_and_lanes_have_orders_of_their_own() -> None:
    order, other = (LaneOrder(counts=[50] * 20, seed=seed, lanes=4, window=32) for seed in (0, 1))
    first, second, third = seen(order, 0, 1000), seen(order, 1000, 2000), seen(other, 0, 1000)
    for left, right in ((first, second), (first, third)):
        assert sum(a == b for a, b in zip(left, right, strict=True)) < 20
    assert order.fingerprint() != other.fingerprint()
    assert order.fingerprint() == LaneOrder(counts=[50] * 20, seed=0, lanes=4, window=32).fingerprint()


def test_small_data_may_come_in_any_order() -> None:
    # One shard of 30: what is first is anything, though windows and lanes would allow few.
    firsts = {seen(LaneOrder(counts=[30], seed=seed, lanes=64, window=1024), 0, 1)[0] for seed in range(400)}
    assert len(firsts) == 30


def test_reading_stays_in_as_many_places_as_there_are_lanes() -> None:
    order = LaneOrder(counts=[1000] * 400, seed=3, lanes=8, window=100)
    for start in (0, 123_456, 300_000):
        shards, places = order.places(np.arange(start, start + 8 * 100))
        # Each lane is within one or two windows, so within two or three shards' edges.
        assert len(np.unique(shards)) <= 8 * 2
        spread = sum(np.ptp(places[shards == shard]) for shard in np.unique(shards))
        assert spread <= 8 * 2 * 100
    mine = order.places(np.arange(0, 8 * 1000, 4))[0]
    assert len(np.unique(mine)) <= 2 * 2 + 2, "every fourth position keeps to its two lanes"


def test_hundreds_of_millions_of_samples_need_no_table() -> None:
    order = LaneOrder(counts=[10_000] * 40_000, seed=0, lanes=64, window=1024)
    assert order.total == 400_000_000
    at = np.random.default_rng(0).integers(0, 3 * order.total, 2000)
    shards, places = order.places(at)
    assert (shards < 40_000).all() and (places < 10_000).all() and (places >= 0).all()
    held = sum(
        array.nbytes for layout in order._layouts.values() for array in (layout.shards, layout.starts, layout.ends)
    )
    assert held < 4e6


def test_stand_ins_are_of_the_same_epoch_and_spread() -> None:
    order = LaneOrder(counts=[10] * 10, seed=5, lanes=2, window=8)
    drawn = [order.stand_in(position, attempt) for position in range(100, 200) for attempt in range(30)]
    assert min(drawn) >= 100 and max(drawn) < 200 and len(set(drawn)) == 100
    assert drawn == [order.stand_in(position, attempt) for position in range(100, 200) for attempt in range(30)]
    assert abs(chi_square(np.bincount(np.array(drawn) - 100, minlength=100))) < 5

"""Batches of one bucket: every sample once an epoch, the same after any restart and on any number of ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prx_scale.data.batchplan import Batch, BatchPlan, deal
from prx_scale.data.orders import MixedOrder, Numbers, Order, ShuffledOrder, Stretch, block_starts
from tests.prx_scale.data.bucketqueues import BucketQueues

FEWER = settings(max_examples=50)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A small dataset, some of whose samples are left out (-1), and a batch."""

    buckets: list[int]
    kinds: int
    starts: list[int]
    seed: int
    batch: int
    window: int

    def order(self) -> ShuffledOrder:
        ids, starts = np.array(self.buckets, dtype=np.int8), np.array(self.starts)
        return ShuffledOrder(ids, self.kinds, seed=self.seed, starts=starts)

    def plan(self) -> BatchPlan:
        return BatchPlan(self.order(), self.batch, self.window)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kinds = draw(st.integers(1, 5))
    buckets = draw(st.lists(st.integers(-1, kinds - 1), min_size=1, max_size=60).filter(lambda ids: max(ids) >= 0))
    cuts = draw(st.sets(st.integers(1, max(len(buckets) - 1, 1)), max_size=4))
    return Case(
        buckets=buckets,
        kinds=kinds,
        starts=[0, *sorted(cut for cut in cuts if cut < len(buckets))],
        seed=draw(st.integers(0, 2**40)),
        batch=draw(st.integers(1, 9)),
        window=draw(st.integers(1, 50)),
    )


def shown(batch: Batch) -> tuple[int, list[int]]:
    return batch.bucket, batch.samples.tolist()


def streamed(order: Order, stop: int, batch: int) -> list[tuple[int, list[int]]]:
    """Batches of the queues, which take one sample after another."""
    part = order.stretch(0, stop)
    pairs = zip(part.samples.tolist(), part.buckets.tolist(), strict=True)
    return [shown(each) for each in BucketQueues(order.kinds, batch).batches(pairs)]


@given(case=cases(), epochs=st.integers(1, 4))
def test_plan_and_queues_have_the_same_batches(case: Case, epochs: int) -> None:
    order, plan = case.order(), case.plan()
    stop = epochs * order.length
    expected = streamed(order, stop, case.batch)
    assert len(expected) == plan.steps(stop)
    assert [shown(plan.at(step)) for step in range(len(expected))] == expected


@given(case=cases(), epochs=st.integers(1, 4))
def test_no_sample_of_an_epoch_is_dropped_or_doubled(case: Case, epochs: int) -> None:
    """What the batches lack of whole epochs waits: less than a batch in each bucket."""
    order, plan = case.order(), case.plan()
    stop = epochs * order.length
    seen = np.zeros(len(case.buckets), dtype=int)
    for step in range(plan.steps(stop)):
        batch = plan.at(step)
        assert {case.buckets[sample] for sample in batch.samples.tolist()} == {batch.bucket}
        np.add.at(seen, batch.samples, 1)
    ids = np.array(case.buckets)
    for bucket in range(case.kinds):
        owed = epochs * np.count_nonzero(ids == bucket) - seen[ids == bucket].sum()
        assert 0 <= owed < case.batch
    assert not seen[ids < 0].any()
    if case.batch == 1:
        assert (seen[ids >= 0] == epochs).all()


@given(case=cases(), epoch=st.integers(0, 5))
def test_an_epoch_has_every_sample_once_and_blocks_stay_together(case: Case, epoch: int) -> None:
    order = case.order()
    part = order.stretch(epoch * order.length, (epoch + 1) * order.length)
    assert sorted(part.samples.tolist()) == [number for number, bucket in enumerate(case.buckets) if bucket >= 0]
    blocks = np.searchsorted(case.starts, part.samples, side="right")
    assert np.count_nonzero(np.diff(blocks)) == len(set(blocks.tolist())) - 1


@given(case=cases(), steps=st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_any_step_can_be_asked_for_at_once(case: Case, steps: list[int]) -> None:
    """A fresh plan, one that went step by step, and one that jumps back and forth agree."""
    gone, jumping = case.plan(), case.plan()
    expected = [shown(gone.at(step)) for step in range(max(steps) + 3)]
    for step in steps:
        fresh = case.plan()
        assert [shown(fresh.at(step + more)) for more in range(3)] == expected[step : step + 3]
        assert shown(jumping.at(step)) == expected[step]


@FEWER
@given(case=cases(), ranks=st.sampled_from([1, 2, 3]), later=st.sampled_from([1, 2, 6]), stop=st.integers(0, 20))
def test_ranks_of_any_number_share_the_same_batches(case: Case, ranks: int, later: int, stop: int) -> None:
    """Training stops at a step and goes on with another number of ranks: together they have what one would."""
    batch = 6
    alone = BatchPlan(case.order(), batch, case.window)
    for first, last, world in ((0, stop, ranks), (stop, stop + 5, later)):
        plans = [BatchPlan(case.order(), batch, case.window) for _ in range(world)]
        share = batch // world
        for step in range(first, last):
            parts = [plan.at(step) for plan in plans]
            assert {part.bucket for part in parts} == {alone.at(step).bucket}
            held = [part.samples[rank * share : (rank + 1) * share] for rank, part in enumerate(parts)]
            assert np.concatenate(held).tolist() == alone.at(step).samples.tolist()


@FEWER
@given(case=cases(), cut=st.integers(0, 120))
def test_queues_go_on_from_their_state(case: Case, cut: int) -> None:
    order = case.order()
    expected = streamed(order, 150, case.batch)
    first, second = BucketQueues(case.kinds, case.batch), BucketQueues(case.kinds, case.batch)
    part = order.stretch(0, 150)
    pairs = list(zip(part.samples.tolist(), part.buckets.tolist(), strict=True))
    found = [shown(batch) for batch in first.batches(pairs[:cut])]
    second.load_state_dict(first.state_dict())
    found += [shown(batch) for batch in second.batches(pairs[second.position :])]
    assert found == expected
    assert first.position == cut and second.position == 150


@given(case=cases(), pairs=st.lists(st.tuples(st.integers(0, 99), st.none() | st.integers(0, 3)), max_size=80))
def test_queues_are_bounded_and_unusable_samples_only_count(case: Case, pairs: list[tuple[int, int | None]]) -> None:
    queues, full = BucketQueues(4, case.batch), 0
    for number, (sample, bucket) in enumerate(pairs, start=1):
        full += queues.push(sample, bucket) is not None
        assert queues.position == number and queues.waiting <= 4 * (case.batch - 1)
    usable = sum(bucket is not None for _, bucket in pairs)
    assert queues.waiting == usable - full * case.batch


@given(case=cases(), start=st.integers(0, 130), length=st.integers(0, 130))
def test_any_part_of_an_order_can_be_asked_for(case: Case, start: int, length: int) -> None:
    order = case.order()
    whole, part = order.stretch(0, start + length), order.stretch(start, start + length)
    assert part.samples.tolist() == whole.samples[start:].tolist()
    assert part.buckets.tolist() == [case.buckets[sample] for sample in part.samples.tolist()]
    assert order.before(start).tolist() == np.bincount(whole.buckets[:start], minlength=case.kinds).tolist()
    only = np.arange(case.kinds) % 2 == 0
    kept = order.stretch(start, start + length, only)
    assert kept.samples.tolist() == part.samples[only[part.buckets]].tolist()


@given(case=cases(), out=st.sets(st.integers(0, 59)))
def test_leaving_samples_out_does_not_move_the_others(case: Case, out: set[int]) -> None:
    """So images that fail to decode as they are read leave the same batches as an index without them."""
    fewer = [-1 if number in out else bucket for number, bucket in enumerate(case.buckets)]
    if max(fewer) < 0:
        return
    whole, order = (
        case.order(),
        case.order().__class__(np.array(fewer), case.kinds, seed=case.seed, starts=np.array(case.starts)),
    )
    left = [sample for sample in whole.stretch(0, whole.length).samples.tolist() if fewer[sample] >= 0]
    assert order.stretch(0, order.length).samples.tolist() == left


def test_orders_are_fixed_for_good() -> None:
    """A change of these numbers would give every resumed run other batches."""
    ids = np.array([0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0])
    plan = BatchPlan(ShuffledOrder(ids, 2, seed=3, starts=np.array([0, 6])), 3)
    assert [shown(plan.at(step)) for step in range(6)] == GOLDEN


GOLDEN = [(0, [11, 9, 6]), (0, [8, 0, 5]), (1, [10, 7, 3]), (1, [4, 1, 4]), (0, [2, 0, 5]), (0, [2, 9, 11])]


def test_seeds_stages_and_epochs_have_orders_of_their_own() -> None:
    ids = np.zeros(1000, dtype=np.uint8)
    orders = [ShuffledOrder(ids, 1, seed=seed, stage=stage) for seed, stage in ((0, 0), (0, 1), (1, 0))]
    seen = [order.stretch(0, 2000).samples for order in orders]
    epochs = [part for samples in seen for part in (samples[:1000], samples[1000:])]
    for number, one in enumerate(epochs):
        assert abs(np.corrcoef(one, np.arange(1000))[0, 1]) < 0.13
        for other in epochs[:number]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.13, "4 standard errors of 1000 independent places"


def test_rare_buckets_are_found_again_far_back() -> None:
    """One of 2000 samples is in the second bucket: its batches span epochs, and what waits lies many windows back."""
    ids = np.zeros(20_000, dtype=np.uint8)
    ids[::2000] = 1
    order = ShuffledOrder(ids, 2, seed=1, starts=np.arange(0, 20_000, 3000))
    gone = BatchPlan(order, 7, 512)
    expected = [shown(gone.at(step)) for step in range(9000)]
    rare = [step for step, (bucket, _) in enumerate(expected) if bucket == 1]
    assert len(rare) == 31 // 7, "31 or 32 have come after 3.15 epochs of 10"
    for step in (rare[0], rare[0] + 1, rare[1] - 1, 8000):
        assert shown(BatchPlan(order, 7, 512).at(step)) == expected[step]


def test_an_order_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        ShuffledOrder(np.array([-1, -1]), 2, seed=0)


def test_blocks_are_whole_shards() -> None:
    assert block_starts([3, 4, 5, 1, 9, 2], least=7).tolist() == [0, 7, 22]
    assert block_starts([3, 4], least=7).tolist() == [0]
    assert block_starts([], least=7).tolist() == [0]


def mixed(first: Case, second: Case, weights: tuple[float, float, float]) -> tuple[MixedOrder, list[ShuffledOrder]]:
    ids = [np.array(case.buckets) for case in (first, second, first)]
    orders = [ShuffledOrder(each, 5, seed=seed) for seed, each in enumerate(ids)]
    return MixedOrder(orders, [len(each) for each in ids], weights), orders


WEIGHTS = st.tuples(*[st.floats(0.01, 10.0)] * 3)


@FEWER
@given(first=cases(), second=cases(), weights=WEIGHTS, stop=st.integers(1, 300))
def test_a_mix_keeps_its_shares_and_the_order_of_its_parts(
    first: Case, second: Case, weights: tuple[float, float, float], stop: int
) -> None:
    mix, orders = mixed(first, second, weights)
    samples = mix.stretch(0, stop).samples
    source = mix.source_of(samples)
    for number, order in enumerate(orders):
        own = samples[source == number] - mix.offsets[number]
        assert own.tolist() == order.stretch(0, len(own)).samples.tolist()
        assert abs(len(own) - stop * weights[number] / sum(weights)) < 3.001


@FEWER
@given(first=cases(), second=cases(), weights=WEIGHTS, start=st.integers(0, 200), length=st.integers(0, 100))
def test_any_part_of_a_mix_can_be_asked_for(
    first: Case, second: Case, weights: tuple[float, float, float], start: int, length: int
) -> None:
    mix, _ = mixed(first, second, weights)
    whole, part = mix.stretch(0, start + length), mix.stretch(start, start + length)
    assert part.samples.tolist() == whole.samples[start:].tolist()
    assert mix.before(start).tolist() == np.bincount(whole.buckets[:start], minlength=5).tolist()
    only = np.arange(5) % 2 == 1
    assert mix.stretch(start, start + length, only).samples.tolist() == part.samples[only[part.buckets]].tolist()


@FEWER
@given(first=cases(), second=cases(), weights=WEIGHTS, step=st.integers(0, 40))
def test_a_mix_has_a_plan_like_any_order(
    first: Case, second: Case, weights: tuple[float, float, float], step: int
) -> None:
    mix, _ = mixed(first, second, weights)
    expected = streamed(mix, 400, first.batch)
    if step < len(expected):
        assert shown(BatchPlan(mix, first.batch, first.window).at(step)) == expected[step]


def test_deal_leaves_what_does_not_fill_a_batch() -> None:
    waiting = Stretch(samples=numbers(90, 91), buckets=numbers(1, 0))
    arriving = Stretch(samples=numbers(10, 11, 12, 13, 14), buckets=numbers(0, 0, 1, 1, 1))
    dealt = deal(waiting, arriving, 2)
    assert dealt.buckets.tolist() == [0, 1, 1]
    assert dealt.samples.tolist() == [[91, 10], [90, 12], [13, 14]]
    assert dealt.waiting.samples.tolist() == [11]


def numbers(*values: int) -> Numbers:
    return np.array(values, dtype=np.int64)

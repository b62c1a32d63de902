"""Batches of one bucket out of one or several pools of samples, each with a fixed share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.batchplan import BatchPlan
from prx_scale.data.orders import MixedOrder, Numbers, ShuffledOrder
from prx_scale.data.weighted import WeightedOrder


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Samples of one source that are trained on."""

    assigned: NDArray[np.int16]
    """(N,) bucket of each, negative where it is left out."""
    starts: Numbers | None = None
    """First samples of the blocks that are shuffled; see `ShuffledOrder`."""
    weights: NDArray[np.floating] | None = None
    """(N,) how often each comes in an epoch of the pool; None is once."""
    weight: float = 1.0
    """Share among the pools, in any unit, above 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledBatch:
    """Samples of one bucket."""

    bucket: int
    pools: Numbers
    """(B,) which pool each is of."""
    numbers: Numbers
    """(B,) their numbers there."""


class PooledBatches:
    """The batches of a mix of pools over the same buckets, any of them by its number."""

    def __init__(self, pools: Sequence[Pool], kinds: int, *, seed: int, order: int, batch: int) -> None:
        """Lay out the order.

        Args:
            pools: at least one.
            kinds: how many buckets there are.
            seed: of the order.
            order: another order for each.
            batch: samples of a step, over all ranks.

        Raises:
            ValueError: a pool has no sample that is trained on.
        """
        orders = [_order(pool, kinds, seed=seed, stage=order + (number << 32)) for number, pool in enumerate(pools)]
        self._mixed = None
        if len(pools) > 1:
            self._mixed = MixedOrder(orders, [len(pool.assigned) for pool in pools], [pool.weight for pool in pools])
        self._plan = BatchPlan(self._mixed or orders[0], batch)

    def at(self, step: int) -> PooledBatch:
        """The batch of a step.

        Args:
            step: from 0.
        """
        found = self._plan.at(step)
        if self._mixed is None:
            return PooledBatch(bucket=found.bucket, pools=np.zeros_like(found.samples), numbers=found.samples)
        pools = self._mixed.source_of(found.samples)
        return PooledBatch(bucket=found.bucket, pools=pools, numbers=found.samples - self._mixed.offsets[pools])


def _order(pool: Pool, kinds: int, *, seed: int, stage: int) -> ShuffledOrder:
    if pool.weights is None:
        return ShuffledOrder(pool.assigned, kinds, seed=seed, stage=stage, starts=pool.starts)
    return WeightedOrder(pool.assigned, pool.weights, kinds, seed=seed, stage=stage, starts=pool.starts)

"""The micro-batches of a run by their number: how many samples each has, and where in training. Needs no torch."""

from __future__ import annotations

import bisect
from itertools import accumulate

from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.stages import resolve


class MicroBatches:
    """The k-th micro-batches of all processes, through the stages; of R processes each has one.

    Where the steps of a stage have a batch of B and micro-batches of b, a step has B / (R b) of them. The last stage
    goes on.
    """

    def __init__(self, run: RunConfig, world: int) -> None:
        """Count them.

        Args:
            run: with the steps of all stages.
            world: R, processes that have images of their own.

        Raises:
            InputError: sizes that do not make up a step.
        """
        stages = resolve(run)
        self.sizes = tuple(run.parallel.micro_batch or stage.batch // world for stage in stages)
        """b of each stage."""
        for stage, size in zip(stages, self.sizes, strict=True):
            if size < 1 or stage.batch % (size * world):
                raise InputError(
                    f"a batch of {stage.batch} does not divide among {world} processes in micro-batches of {size}"
                )
        pairs = list(zip(stages, self.sizes, strict=True))
        self._all = tuple(size * world for size in self.sizes)
        self._items = (0, *accumulate(stage.steps * stage.batch // (size * world) for stage, size in pairs))
        self._seen = (0, *accumulate(stage.steps * stage.batch for stage in stages))

    def seen(self, item: int) -> int:
        """Samples that all processes have seen before a micro-batch.

        Args:
            item: its number.
        """
        stage = self._stage(self._items, item)
        return self._seen[stage] + (item - self._items[stage]) * self._all[stage]

    def at(self, seen: int) -> int:
        """The micro-batch that comes next.

        Args:
            seen: samples that all processes have seen.
        """
        stage = self._stage(self._seen, seen)
        return self._items[stage] + (seen - self._seen[stage]) // self._all[stage]

    def size(self, item: int) -> int:
        """b of a micro-batch.

        Args:
            item: its number.
        """
        return self.sizes[self._stage(self._items, item)]

    def _stage(self, firsts: tuple[int, ...], at: int) -> int:
        return min(bisect.bisect_right(firsts, at) - 1, len(self.sizes) - 1)

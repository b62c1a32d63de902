"""Which samples are for validation alone: those whose number has a low hash, the same ones for every run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from prx_scale.config import RunConfig
from prx_scale.data.captions import draw_kinds
from prx_scale.data.shapes.hashing import uniforms
from prx_scale.diffusion.draws import Purpose
from prx_scale.errors import InputError

Numbers = NDArray[np.int64]
_CHUNK = 1 << 20


def training_buckets(assigned: NDArray[np.int16], share: float) -> NDArray[np.int16]:
    """Buckets of samples, -1 also where a sample is held out.

    Args:
        assigned: (N,) bucket of each.
        share: that is held out.
    """
    kept = np.array(assigned)
    for numbers in _chunks(len(kept)):
        kept[numbers[heldout_draws(numbers, 1)[:, 0] < share]] = -1
    return kept


def heldout_numbers(assigned: NDArray[np.int16], share: float) -> Numbers:
    """Samples that are held out and have latents, from the lowest hash up.

    Args:
        assigned: (N,) bucket of each.
        share: that is held out.
    """
    parts = [
        numbers[(heldout_draws(numbers, 1)[:, 0] < share) & (assigned[numbers] >= 0)]
        for numbers in _chunks(len(assigned))
    ]
    found = np.concatenate(parts)
    return found[np.argsort(heldout_draws(found, 1)[:, 0], kind="stable")]


def validated_numbers(run: RunConfig, assigned: NDArray[np.int16]) -> Numbers:
    """The samples that a run is validated on, the first with the lowest hash.

    Args:
        run: says how many.
        assigned: (N,) bucket of each at [data] image_size, whatever captions it has.

    Raises:
        InputError: too few are held out.
    """
    if not (assigned >= 0).any():
        raise InputError(
            f"{run.data.path}: none of its {len(assigned):,} samples can be used at {run.data.image_size} pixels: they "
            "are damaged, too small, filtered out, or lack a caption"
        )
    found = heldout_numbers(assigned, run.data.heldout)
    if len(found) < run.validation.images:
        raise InputError(
            f"[validation] images: {run.validation.images}, but [data] heldout = {run.data.heldout:g} leaves "
            f"{len(found)} of {run.data.image_size} pixels to {run.data.path}; raise heldout, or take fewer"
        )
    return found[: run.validation.images]


def heldout_kinds(available: NDArray[np.bool_], numbers: Numbers) -> Numbers:
    """(B,) the kind of caption that a sample is validated with: any that it has, with equal chances; -1 for none.

    Args:
        available: (B, K) which of all kinds each has.
        numbers: (B,) of the samples.
    """
    return draw_kinds(available, [1.0] * available.shape[1], heldout_draws(numbers, 2)[:, 1])


def heldout_draws(numbers: Numbers, draws: int) -> NDArray[np.float64]:
    """(B, draws) uniform numbers that belong to samples, whatever the seed: the first says whether one is held out.

    Args:
        numbers: (B,) of the samples.
        draws: how many for each.
    """
    return uniforms(int(Purpose.HELDOUT), numbers, draws)


def _chunks(count: int) -> Iterator[Numbers]:
    for start in range(0, count, _CHUNK):
        yield np.arange(start, min(start + _CHUNK, count))

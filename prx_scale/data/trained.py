"""Which samples of a store are trained on, and which are held out. Needs no torch.

A share of the samples is for validation alone: those whose number has a low hash, the same ones for every run, whatever
its seed and image size. Validation takes the lowest of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.captions import CaptionTable
from prx_scale.data.shapes.hashing import uniforms
from prx_scale.diffusion.draws import Purpose

if TYPE_CHECKING:
    from prx_scale.data.store import Store

Numbers = NDArray[np.int64]
CHUNK = 1 << 20


def trained_buckets(store: Store, image_size: int, captions: CaptionTable, heldout: float) -> NDArray[np.int16]:
    """(N,) bucket of each sample of a store, -1 where it is not trained on.

    Args:
        store: of the samples.
        image_size: at which they are trained on.
        captions: those that are wanted; a store may lack some of the kinds.
        heldout: share that is held out.

    Raises:
        InputError: the store does not have the image size.
    """
    view = store.at(image_size)
    there = [kind for kind in captions.kinds if kind in store.kinds]
    return training_buckets(view.with_captions(there) if captions.missing == "skip" else view.assigned, heldout)


def available_kinds(store: Store, numbers: Numbers, kinds: Sequence[str]) -> NDArray[np.bool_]:
    """Which kinds of captions samples have (B, K), where the store may lack some.

    Args:
        store: of the samples.
        numbers: (B,) of the samples.
        kinds: K of them.
    """
    places = [place for place, kind in enumerate(kinds) if kind in store.kinds]
    found = np.zeros((len(numbers), len(kinds)), dtype=np.bool_)
    found[:, places] = store.available(numbers, [kinds[place] for place in places])
    return found


def training_buckets(assigned: NDArray[np.int16], share: float) -> NDArray[np.int16]:
    """Buckets of samples, -1 also where a sample is held out.

    Args:
        assigned: (N,) bucket of each.
        share: that is held out.
    """
    kept = np.array(assigned)
    for numbers in _chunks(len(kept)):
        kept[numbers[_draws(numbers) < share]] = -1
    return kept


def heldout_numbers(assigned: NDArray[np.int16], share: float) -> Numbers:
    """Samples that are held out and have latents, from the lowest hash up.

    Args:
        assigned: (N,) bucket of each.
        share: that is held out.
    """
    parts = [numbers[(_draws(numbers) < share) & (assigned[numbers] >= 0)] for numbers in _chunks(len(assigned))]
    found = np.concatenate(parts)
    return found[np.argsort(_draws(found), kind="stable")]


def heldout_caption_draws(numbers: Numbers) -> NDArray[np.float64]:
    """(B,) uniform numbers that choose the caption of held-out samples.

    Args:
        numbers: (B,) of the samples.
    """
    return uniforms(int(Purpose.HELDOUT), numbers, 2)[:, 1]


def _draws(numbers: Numbers) -> NDArray[np.float64]:
    return uniforms(int(Purpose.HELDOUT), numbers, 1)[:, 0]


def _chunks(count: int) -> Iterator[Numbers]:
    for start in range(0, count, CHUNK):
        yield np.arange(start, min(start + CHUNK, count))

"""Which samples of a store are trained on. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prx_scale.config import RunConfig
from prx_scale.data.captions import CaptionTable
from prx_scale.data.heldout import training_buckets
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.data.store import Store

Numbers = NDArray[np.int64]


def trained_buckets(
    store: Store,
    image_size: int,
    captions: CaptionTable,
    heldout: float,
    weights: NDArray[np.float32] | None = None,
) -> NDArray[np.int16]:
    """(N,) bucket of each sample of a store, -1 where it is not trained on.

    Args:
        store: of the samples.
        image_size: at which they are trained on.
        captions: those that are wanted; a store may lack some of the kinds.
        heldout: share that is held out.
        weights: (N,) of a filter, 0 for what it removed; None where there is none.

    Raises:
        InputError: the store does not have the image size.
    """
    view = store.at(image_size)
    there = [kind for kind in captions.kinds if kind in store.kinds]
    assigned = view.with_captions(there) if captions.missing == "skip" else view.assigned
    return training_buckets(with_weights(assigned, weights), heldout)


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


def with_weights(assigned: NDArray[np.int16], weights: NDArray[np.float32] | None) -> NDArray[np.int16]:
    """Buckets of samples, -1 also where one has no weight.

    Args:
        assigned: (N,) bucket of each.
        weights: (N,), or None where all count alike.
    """
    return assigned if weights is None else np.where(weights > 0, assigned, np.int16(-1))


def check_any(assigned: NDArray[np.int16], run: RunConfig, image_size: int) -> None:
    """Refuse data of which nothing is trained on.

    Args:
        assigned: (N,) bucket of each sample, negative where it is not trained on.
        run: on these data.
        image_size: at which they are trained on.

    Raises:
        InputError: there is none.
    """
    if (assigned >= 0).any():
        return
    kept = f", that {run.data.filter} keeps" if run.data.filter else ""
    raise InputError(
        f"{run.data.path}: has no sample of {image_size} pixels for training that has a caption of "
        f"{', '.join(run.captions.kinds)}{kept} and that is not held out"
    )

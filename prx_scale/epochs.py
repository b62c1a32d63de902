"""[[stage]] epochs: the samples that training sees in one, counted once and kept with the study. Needs no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from prx_scale.choices import weights_of
from prx_scale.config import RunConfig
from prx_scale.data.trained import trained_buckets
from prx_scale.errors import InputError
from prx_scale.imagedata import FoundImages, check_content
from prx_scale.stores import Found, content_of, open_store

if TYPE_CHECKING:
    from prx_scale.data.store import Store

T = TypeVar("T", Found, FoundImages)
_Taken = tuple[NDArray[np.int16], NDArray[np.float32] | None]
"""Bucket of each sample, -1 where it is not trained on, and the weights of a filter."""


def samples_of_epoch(run: RunConfig, image_size: int, found: dict[str, T], where: str) -> int:
    """Samples that training sees in an epoch.

    Args:
        run: that trains on these data alone, filled in.
        image_size: at which it does.
        found: what the study file led to; takes the count.
        where: stage and key, for errors.

    Raises:
        InputError: the data are not there, or others than the run's.
    """
    data = run.data
    chosen = f", filter {data.filter_hash}" if data.filter else ""
    name = f"{image_size} pixels, heldout {data.heldout!r}, {run.captions.missing} {run.captions.kinds}{chosen}"
    same = [asked for asked, each in found.items() if each.has(data)]
    for asked in same:
        if name in found[asked].epochs:
            return found[asked].epochs[name]
    try:
        taken, weights = _of_images(run, image_size) if data.dataset == "images" else _of_store(run, image_size)
    except InputError as error:
        raise InputError(f"{where}: the samples cannot be counted: {error}") from error
    inside = taken >= 0
    count = int(inside.sum() if weights is None else round(float(weights[inside].sum(dtype=np.float64))))
    first = found[same[0]]
    found[same[0]] = replace(first, epochs={**first.epochs, name: count})
    return count


def _of_images(run: RunConfig, image_size: int) -> _Taken:
    from prx_scale.data.encoding.fromrun import planned_images
    from prx_scale.data.onthefly.surveying import surveyed_at_reading, trained_images

    planned = planned_images(run, "its images:", "data")
    check_content(run, planned.content, "its images")
    weights = weights_of(run.data, planned.plan.draft.data.samples)
    return trained_images(run, planned, surveyed_at_reading(run, planned), image_size, weights), weights


def _of_store(run: RunConfig, image_size: int) -> _Taken:
    store = _text_store(run) if run.on_the_fly else open_store(run, "its store")
    weights = weights_of(run.data, len(store))
    return trained_buckets(store, image_size, run.captions, run.data.heldout, weights), weights


def _text_store(run: RunConfig) -> Store:
    """The store whose captions are encoded while the run trains."""
    from prx_scale.data.encoding.fromrun import planned_text
    from prx_scale.data.store import Store

    store = Store.open(run.data.path, check_files=False)
    check_content(run, planned_text(run, store.recipe, content_of(store.index), "its store:")[1], "its store")
    return store

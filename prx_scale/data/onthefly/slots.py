"""Memory that processes share: room for a few batches, written by one and read by another."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prx_scale.data.store.bytesizes import latent_bytes, text_bytes
from prx_scale.data.store.recipe import Recipe
from prx_scale.errors import InputError
from prx_scale.models.sizes import SIZES

_ALIGNED = 64
_SHARED = "/dev/shm"


@dataclass(frozen=True, kw_only=True)
class Array:
    """Where an array lies in a slot."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int


def slot_bytes(recipe: Recipe, size: int, image_size: int) -> int:
    """Room for any batch of an image size.

    Args:
        recipe: of what is in it.
        size: samples of a batch.
        image_size: of its images.
    """
    each = latent_bytes(recipe)[image_size] + sum(text_bytes(recipe).values())
    # Numbers, conditioning, kinds of captions, and lengths of each encoder's states.
    each += 8 + 4 * SIZES + 4 + 4 * len(recipe.text)
    arrays = 5 + 5 * len(recipe.text)
    return size * each + arrays * _ALIGNED


def shared(slots: int, size: int) -> Tensor:
    """Slots of shared memory, (slots, bytes); a process that is given it sees the same bytes.

    Args:
        slots: how many.
        size: bytes of each.

    Raises:
        InputError: the system has no room for it.
    """
    size = -(-size // _ALIGNED) * _ALIGNED
    if os.path.isdir(_SHARED):
        system = os.statvfs(_SHARED)
        free = system.f_bavail * system.f_frsize
        if slots * size > free:
            raise InputError(
                f"{_SHARED}: {slots * size / 1e9:.2f} GB are needed for batches between processes and "
                f"{free / 1e9:.2f} GB are free; give the container more, or use fewer processes or a smaller depth"
            )
    return torch.zeros((slots, size), dtype=torch.uint8).share_memory_()


def write(slot: NDArray[np.uint8], arrays: Mapping[str, NDArray[Any]]) -> tuple[Array, ...]:
    """Put arrays into a slot.

    Args:
        slot: its bytes.
        arrays: by name.

    Returns:
        Where they lie.
    """
    start, found = 0, list[Array]()
    for name, values in arrays.items():
        values = np.ascontiguousarray(values)
        if start + values.nbytes > len(slot):
            raise ValueError(f"a slot of {len(slot)} bytes has no room for {name}, {values.nbytes} bytes from {start}")
        slot[start : start + values.nbytes] = values.reshape(-1).view(np.uint8)
        found.append(Array(name=name, dtype=values.dtype.str, shape=values.shape, start=start))
        start += -(-values.nbytes // _ALIGNED) * _ALIGNED
    return tuple(found)


def read(slot: NDArray[np.uint8], arrays: Sequence[Array]) -> dict[str, NDArray[Any]]:
    """Copy arrays out of a slot, which may then be written again.

    Args:
        slot: its bytes.
        arrays: where they lie.
    """
    found: dict[str, NDArray[Any]] = {}
    for array in arrays:
        dtype = np.dtype(array.dtype)
        size = int(np.prod(array.shape)) * dtype.itemsize
        found[array.name] = slot[array.start : array.start + size].copy().view(dtype).reshape(array.shape)
    return found

"""One tensor at a time from our parameters to theirs and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from prx_scale.models.convert.layouts import Entry
from prx_scale.models.names import TensorShape

Read = Callable[[str], Tensor]
"""The whole tensor of a name."""


def _swap_halves(value: Tensor) -> Tensor:
    first, second = value.chunk(2)
    return torch.cat([second, first])


def to_theirs(entry: Entry, read: Read) -> Tensor:
    """One of their tensors.

    Args:
        entry: which.
        read: gives our parameters.
    """
    values = [read(name) for name in entry.ours]
    value = values[0] if len(values) == 1 else torch.cat(values)
    return (_swap_halves(value) if entry.swapped else value).reshape(entry.shape)


def from_theirs(entry: Entry, value: Tensor, shapes: Mapping[str, TensorShape]) -> dict[str, Tensor]:
    """Our parameters in one of their tensors.

    Args:
        entry: which.
        value: the tensor.
        shapes: of our parameters.
    """
    if entry.swapped:
        value = _swap_halves(value)
    parts = value.chunk(len(entry.ours)) if len(entry.ours) > 1 else (value,)
    return {name: part.reshape(shapes[name]) for name, part in zip(entry.ours, parts, strict=True)}

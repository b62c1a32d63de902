"""Which layout a set of tensors has, and what model they are of; what cannot be represented is refused by name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prx_scale.errors import InputError
from prx_scale.models.convert.layouts import DIFFUSERS, STABILITY, STABILITY_PREFIX, Entry, Layout, entries
from prx_scale.models.names import TensorShape, WeightSizes
from prx_scale.runtables import HEAD_DIM

Shapes = Mapping[str, TensorShape]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a set of tensors is."""

    layout: Layout
    prefix: str
    """Before every name."""
    sizes: WeightSizes
    side: int
    """Of the table of positions."""
    entries: tuple[Entry, ...]
    others: int
    """Tensors beside the transformer's, in a file that holds a whole pipeline."""


def detect(shapes: Shapes, path: Path) -> Found:
    """Recognise a transformer by its names and shapes.

    Args:
        shapes: of all tensors.
        path: for errors.

    Raises:
        InputError: names the first tensor that is missing, unexpected, or of another shape than the model has.
    """
    prefix = STABILITY_PREFIX if any(name.startswith(STABILITY_PREFIX) for name in shapes) else ""
    mine = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    _refuse_kinds(mine, path)
    layout = _layout(mine, path)
    sizes, side = _sizes(mine, layout, path)
    found = tuple(entries(layout, sizes, side))
    _compare(mine, {entry.theirs: entry.shape for entry in found}, path)
    others = len(shapes) - len(mine)
    return Found(layout=layout, prefix=prefix, sizes=sizes, side=side, entries=found, others=others)


def _refuse_kinds(shapes: Shapes, path: Path) -> None:
    for name in shapes:
        if "lora" in name.lower():
            raise InputError(f"{path}: {name}: a LoRA's change of weights, not weights; merge it into its model first")
        if ".attn2." in name:
            raise InputError(
                f"{path}: {name}: dual attention (SD3.5 medium's second, image-only attention) cannot be represented"
            )


def _layout(shapes: Shapes, path: Path) -> Layout:
    for layout in (STABILITY, DIFFUSERS):
        if any(name.startswith(layout.block.split("{")[0]) for name in shapes):
            return layout
    example = next(iter(shapes), "none at all")
    raise InputError(
        f"{path}: no SD3 transformer: no tensor is called joint_blocks... (Stability's layout) or "
        f"transformer_blocks... (diffusers'); found {example}"
    )


def _sizes(shapes: Shapes, layout: Layout, path: Path) -> tuple[WeightSizes, int]:
    def shape(name: str, axes: int) -> TensorShape:
        if name not in shapes:
            raise InputError(f"{path}: {name}: missing")
        if len(shapes[name]) != axes:
            raise InputError(f"{path}: {name}: of shape {list(shapes[name])}, not of {axes} axes")
        return shapes[name]

    hidden, channels, patch, _ = shape(layout.outside["patch_embed"] + ".weight", 4)
    _, entries_of_table, _ = shape(layout.positions, 3)
    if hidden % HEAD_DIM:
        raise InputError(f"{path}: a width of {hidden} is not a multiple of {HEAD_DIM}, the width of a head")
    if patch < 1 or channels < 1 or entries_of_table < 1:
        raise InputError(f"{path}: {layout.outside['patch_embed']}.weight: an axis of length 0")
    side = math.isqrt(entries_of_table)
    q_norm = "." + layout.image[("q_norm",)] + ".weight"
    sizes = WeightSizes(
        depth=_depth(shapes, layout),
        hidden=hidden,
        patch=patch,
        channels=channels,
        context_dim=shape(layout.outside["context_embed"] + ".weight", 2)[1],
        pooled_dim=shape(layout.outside["pooled_embed.first"] + ".weight", 2)[1],
        qk_norm=any(name.endswith(q_norm) for name in shapes),
    )
    return sizes, side


def _depth(shapes: Shapes, layout: Layout) -> int:
    pattern = re.compile(re.escape(layout.block.split("{")[0]) + r"(\d+)\.")
    numbers = [int(match.group(1)) for name in shapes if (match := pattern.match(name))]
    # A stray block number must not ask for a million blocks: missing ones are named either way.
    return min(max(numbers, default=0), len(shapes)) + 1


def _compare(found: Shapes, expected: Shapes, path: Path) -> None:
    for name, shape in expected.items():
        if name not in found:
            raise InputError(f"{path}: {name}: missing")
        if found[name] != shape:
            raise InputError(f"{path}: {name}: of shape {list(found[name])}, not {list(shape)}")
    for name in found:
        if name not in expected:
            raise InputError(f"{path}: {name}: unexpected; an SD3 transformer of this size has no such tensor")

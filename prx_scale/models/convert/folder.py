"""Our own folders of weights: written from a published model or a run, read into a model of any layout of devices."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from parallel.shards import assign
from parallel.titan import canonical_fqn
from prx_scale.errors import InputError
from prx_scale.models.convert.folding import factor_of
from prx_scale.models.convert.tensors import Read
from prx_scale.models.convert.writing import SHARD_BYTES, content_hash, write_json, write_weights
from prx_scale.models.embeddings import PositionGrid
from prx_scale.models.mmdit import MMDiT
from prx_scale.models.names import POSITIONS, WeightSizes, parameter_shapes
from prx_scale.startweights import INFO, NORMS, SIZE_EMBED, STEM, Positions, WeightsInfo, read_info, tensors_of


def write_folder(
    folder: Path,
    *,
    sizes: WeightSizes,
    positions: Positions,
    read: Read,
    source: Mapping[str, Any],
    limit: int = SHARD_BYTES,
) -> WeightsInfo:
    """Write weights of our own names, and weights.json beside them.

    Args:
        folder: exists and is empty.
        sizes: of the model.
        positions: of the model.
        read: gives each parameter.
        source: where they came from.
        limit: bytes of one file.
    """
    shapes = parameter_shapes(sizes)
    digests = write_weights(folder, STEM, shapes, read, limit)
    info = WeightsInfo(
        sizes=sizes,
        positions=positions,
        parameters=sum(torch.Size(shape).numel() for shape in shapes.values()),
        hash=content_hash(digests, shapes),
        source=source,
    )
    write_json(folder / INFO, info.to_json())
    return info


def positions_of_grid(grid: PositionGrid, *, learned: bool) -> Positions:
    """A model's positions as weights.json has them.

    Args:
        grid: of the model.
        learned: it has a trained table.
    """
    if learned:
        return Positions(kind="learned", grid=grid.side)
    return Positions(kind="sin-cos", grid=grid.side, image=grid.image, base=round(grid.base))


def load_into(model: MMDiT, folder: Path, expected_hash: str) -> None:
    """Give a model the weights of a folder that fits it; each process keeps its part.

    Where its forward pass has multipliers, as under muP, they are divided out: it is the same function at first. An
    embedder of sizes that the weights lack stays as it was initialised, and so adds nothing at first.

    Args:
        model: on its devices, with its initial weights.
        folder: of the weights.
        expected_hash: of their content, as the run's configuration has it.

    Raises:
        InputError: the weights are not those of the hash.
    """
    info, described = read_info(folder), tensors_of(folder)
    factor = factor_of(model.config)
    digests: dict[str, str] = {}
    for name, parameter in model.named_parameters():
        name = canonical_fqn(name)
        if name not in described and name.startswith(SIZE_EMBED):
            continue
        if name not in described:
            assign(parameter, _made(name, parameter, info.positions) / factor(name))
            continue
        with safe_open(described[name].file, framework="pt") as opened:
            value = opened.get_tensor(name)
        digests[name] = hashlib.sha256(memoryview(value.numpy()).cast("B")).hexdigest()
        assign(parameter, value if factor(name) == 1 else value / factor(name))
    if content_hash(digests, {name: described[name].shape for name in digests}) != expected_hash:
        raise InputError(f"{folder}: its weights are not those of the run ({expected_hash[:12]}...); import them again")


def _made(name: str, parameter: Tensor, positions: Positions) -> Tensor:
    """What weights may lack: QK-norm's scale of 1, and the table that their sinusoids are."""
    if name.endswith(NORMS):
        return torch.ones(parameter.shape)
    assert name == POSITIONS
    grid = PositionGrid(side=positions.grid, image=positions.image, base=positions.base)
    return grid.table(parameter.shape[-1])

"""A model's weights in the published layouts: diffusers' transformer, Stability's file, or a folder of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prx_scale.config import RunConfig
from prx_scale.data.framing import uncropped
from prx_scale.errors import InputError
from prx_scale.models.convert.folder import positions_of_grid, write_folder
from prx_scale.models.convert.folding import factor_of, multiplied
from prx_scale.models.convert.layouts import DIFFUSERS, STABILITY, STABILITY_PREFIX, Layout, entries
from prx_scale.models.convert.tensors import Read, to_theirs
from prx_scale.models.convert.writing import SHARD_BYTES, write_json, write_safetensors, write_weights
from prx_scale.models.embeddings import PositionGrid, size_frequencies
from prx_scale.models.mmdit import backbone_config
from prx_scale.models.names import POSITIONS, TensorShape, WeightSizes, sizes_of_run
from prx_scale.models.sizes import SIZE_FREQUENCIES
from prx_scale.runtables import HEAD_DIM
from prx_scale.startweights import WeightsInfo


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model whose weights can be read one at a time."""

    sizes: WeightSizes
    grid: PositionGrid
    image_side: int
    """Values along a side of what the model was trained on: pixels, or latents."""
    downsampling: int
    """Pixels along one side of a value."""
    read: Read
    """Gives its parameters, with the multipliers of its forward pass folded in."""


def exported_run(run: RunConfig, read: Read) -> Exported:
    """A run's model.

    Args:
        run: the run.
        read: gives its parameters.
    """
    config = backbone_config(run)
    return Exported(
        sizes=sizes_of_run(run),
        grid=config.grid,
        image_side=run.data.image_size // run.data.downsampling,
        downsampling=run.data.downsampling,
        read=multiplied(read, factor_of(config)),
    )


def at_size(model: Exported, image_size: int) -> Exported:
    """A size-conditioned model as one that is told nothing: the same function for whole images of one size.

    What the embedder of sizes adds to the condition is then the same for all of them, and goes into the last bias of
    the embedder of the time.

    Args:
        model: to export.
        image_size: pixels along a side of the square.

    Raises:
        InputError: the model is not told sizes, or has no images of this one.
    """
    if not model.sizes.size_conditioning:
        raise InputError("--image-size: the run's model has no [model] size_conditioning, so there is nothing to fold")
    token, most = model.downsampling * model.sizes.patch, model.grid.side
    if image_size < token or image_size % token or image_size // token > most:
        raise InputError(
            f"--image-size {image_size}: not a size of this model; multiples of {token} up to {token * most} are"
        )
    constant = _embedded(model.read, image_size)

    def read(name: str) -> Tensor:
        return model.read(name) + constant if name == "time_embed.second.bias" else model.read(name)

    sizes = replace(model.sizes, size_conditioning=False)
    return replace(model, sizes=sizes, image_side=image_size // model.downsampling, read=read)


def _embedded(read: Read, image_size: int) -> Tensor:
    """(D,) what the embedder of sizes gives for whole square images."""
    size = torch.tensor([uncropped((image_size, image_size))], dtype=torch.float32)
    hidden = size_frequencies(size, SIZE_FREQUENCIES)
    hidden = F.silu(F.linear(hidden, read("size_embed.first.weight"), read("size_embed.first.bias")))
    return F.linear(hidden, read("size_embed.second.weight"), read("size_embed.second.bias"))[0]


def in_layout(model: Exported, layout: Layout, prefix: str = "") -> tuple[dict[str, TensorShape], Read]:
    """Names, shapes and tensors of a model in a published layout.

    Args:
        model: to export.
        layout: theirs.
        prefix: before every name.

    Raises:
        InputError: the layout cannot hold the model.
    """
    found = {prefix + entry.theirs: entry for entry in entries(layout, model.sizes, model.grid.side)}

    def ours(name: str) -> Tensor:
        if name == POSITIONS and not model.sizes.learned_side:
            return model.grid.table(model.sizes.hidden)
        return model.read(name)

    return {name: entry.shape for name, entry in found.items()}, lambda name: to_theirs(found[name], ours)


def transformer_config(model: Exported) -> dict[str, Any]:
    """diffusers' config.json of the transformer.

    Args:
        model: to export.
    """
    sizes = model.sizes
    return {
        "_class_name": "SD3Transformer2DModel",
        "sample_size": model.image_side,
        "patch_size": sizes.patch,
        "in_channels": sizes.channels,
        "out_channels": sizes.channels,
        "num_layers": sizes.depth,
        "attention_head_dim": HEAD_DIM,
        "num_attention_heads": sizes.heads,
        "joint_attention_dim": sizes.context_dim,
        "caption_projection_dim": sizes.hidden,
        "pooled_projection_dim": sizes.pooled_dim,
        "pos_embed_max_size": model.grid.side,
        "dual_attention_layers": [],
        "qk_norm": "rms_norm" if sizes.qk_norm else None,
    }


def write_transformer(folder: Path, model: Exported, limit: int = SHARD_BYTES) -> None:
    """Write a folder that `SD3Transformer2DModel.from_pretrained` loads.

    Args:
        folder: exists and is empty.
        model: to export.
        limit: bytes of one file.
    """
    shapes, read = in_layout(model, DIFFUSERS)
    write_json(folder / "config.json", transformer_config(model))
    write_weights(folder, "diffusion_pytorch_model", shapes, read, limit)


def write_stability(file: Path, model: Exported) -> None:
    """Write one safetensors file in Stability's layout.

    Args:
        file: to write.
        model: to export.
    """
    shapes, read = in_layout(model, STABILITY, STABILITY_PREFIX)
    write_safetensors(file, shapes, read)


def write_own(folder: Path, model: Exported, source: Mapping[str, Any], limit: int = SHARD_BYTES) -> WeightsInfo:
    """Write a folder of our own, which another run can start from.

    Args:
        folder: exists and is empty.
        model: to export.
        source: where the weights came from.
        limit: bytes of one file.
    """
    return write_folder(
        folder,
        sizes=model.sizes,
        positions=positions_of_grid(model.grid, learned=bool(model.sizes.learned_side)),
        read=model.read,
        source=source,
        limit=limit,
    )

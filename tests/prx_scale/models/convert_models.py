"""Models and their twins in diffusers that the tests of conversion share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from prx_scale.models.convert.exporting import Exported, transformer_config
from prx_scale.models.convert.folding import factor_of, multiplied
from prx_scale.models.convert.layouts import DIFFUSERS, STABILITY, STABILITY_PREFIX, Layout, entries
from prx_scale.models.convert.tensors import to_theirs
from prx_scale.models.embeddings import PositionGrid
from prx_scale.models.mmdit import MMDiT, mmdit_config
from prx_scale.models.mup import Parametrisation
from prx_scale.models.names import POSITIONS, WeightSizes
from prx_scale.models.sizes import Shape

LAYOUT = {"diffusers": DIFFUSERS, "stability": STABILITY}


def sizes(depth: int = 2, *, hidden: int = 0, qk_norm: bool = True, learned_side: int = 0, **more: int) -> WeightSizes:
    settings: dict[str, Any] = {"patch": 2, "channels": 4, "context_dim": 24, "pooled_dim": 40, **more}
    return WeightSizes(depth=depth, hidden=hidden or 64 * depth, qk_norm=qk_norm, learned_side=learned_side, **settings)


def build(of: WeightSizes, grid: PositionGrid, *, scale: float = 0.125, seed: int = 1, mup: bool = False) -> MMDiT:
    """A model of random weights, nothing zero and no norm 1; with muP, of half its width and depth as base."""
    shape = Shape(
        depth=of.depth,
        hidden=of.hidden,
        head_dim=64,
        patch_dim=of.channels * of.patch**2,
        context_dim=of.context_dim,
        pooled_dim=of.pooled_dim,
        image_tokens=grid.image**2,
        text_tokens=7,
        qk_norm=of.qk_norm,
        weight_sets=of.weight_sets,
        learned_positions=of.learned_side**2,
        size_conditioning=of.size_conditioning,
    )
    split = None if of.weight_sets == 2 else (3, 4)
    base = Parametrisation(width=of.hidden, depth=of.depth, base_width=of.hidden // 2, base_depth=of.depth // 2)
    config = mmdit_config(
        shape,
        channels=of.channels,
        patch=of.patch,
        grid=grid,
        text_split=split,
        parametrisation=base if mup else None,
    )
    for block in config.blocks:
        block.attention.scale = scale
    model = config.build()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.init_weights()
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.05, generator=generator)
            if name.endswith("_norm.weight"):
                parameter.add_(1)
    return model.eval()


def read_of(model: MMDiT) -> Callable[[str], Tensor]:
    return lambda name: model.get_parameter(name).detach()


def exported(model: MMDiT, of: WeightSizes, image_side: int = 16) -> Exported:
    return Exported(
        sizes=of,
        grid=model.config.grid,
        image_side=image_side,
        downsampling=model.config.downsampling,
        read=multiplied(read_of(model), factor_of(model.config)),
    )


def inputs(of: WeightSizes, height: int = 16, width: int = 16, batch: int = 2) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(batch, of.channels, height, width, generator=generator)
    rest = {
        "t": torch.rand(batch, generator=generator),
        "context": torch.randn(batch, 7, of.context_dim, generator=generator),
        "pooled": torch.randn(batch, of.pooled_dim, generator=generator),
    }
    return z, rest


def random_theirs(layout: str, of: WeightSizes, table: Tensor, seed: int = 3) -> dict[str, Tensor]:
    """A state dict of random weights in a published layout, made without our model.

    Args:
        layout: diffusers or stability.
        of: the sizes.
        table: (side, side, hidden) positions.
        seed: of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for entry in entries(LAYOUT[layout], of, table.shape[0]):
        value = torch.randn(entry.shape, generator=generator) * 0.05
        state[entry.theirs] = value + 1 if "norm_" in entry.theirs or ".ln_" in entry.theirs else value
    state[LAYOUT[layout].positions] = table.flatten(0, 1)[None].contiguous()
    return state


def theirs_of(layout: Layout, model: MMDiT, of: WeightSizes) -> dict[str, Tensor]:
    """A model's weights in a published layout."""
    ours = dict(model.named_parameters())
    table = {POSITIONS: model.config.grid.table(of.hidden)} if not of.learned_side else {}

    def read(name: str) -> Tensor:
        return table[name] if name in table else ours[name].detach()

    return {entry.theirs: to_theirs(entry, read) for entry in entries(layout, of, model.config.grid.side)}


def diffusers_model(state: Mapping[str, Tensor], of: WeightSizes, side: int) -> Any:
    """diffusers' own class with a state dict, keys matched strictly."""
    from diffusers import SD3Transformer2DModel

    grid = PositionGrid(side=side, image=side, base=side)
    nothing = Exported(sizes=of, grid=grid, image_side=16, downsampling=1, read=lambda name: torch.empty(0))
    config = transformer_config(nothing)
    del config["_class_name"]
    model = SD3Transformer2DModel(**config)
    model.load_state_dict(dict(state), strict=True)
    return model.eval()


def run_diffusers(model: Any, z: Tensor, rest: Mapping[str, Tensor]) -> Tensor:
    return model(z, rest["context"], rest["pooled"], timestep=1000 * rest["t"]).sample


def save(state: Mapping[str, Tensor], file: Path, *, prefix: str = "") -> Path:
    save_file({prefix + name: value.contiguous() for name, value in state.items()}, file)
    return file


__all__ = ["STABILITY_PREFIX"]

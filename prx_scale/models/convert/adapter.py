"""TorchTitan's view of the published layouts: its reading and writing of Hugging Face checkpoints goes through this."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from parallel.titan import StateDictAdapter
from prx_scale.models.convert.folding import factor_of, multiplied
from prx_scale.models.convert.layouts import DIFFUSERS, STABILITY, Layout, entries
from prx_scale.models.convert.positions import tolerance
from prx_scale.models.convert.tensors import from_theirs, to_theirs
from prx_scale.models.mmdit import MMDiT
from prx_scale.models.names import POSITIONS, WeightSizes, parameter_shapes


def sizes_of_config(config: MMDiT.Config) -> WeightSizes:
    """Sizes of a model.

    Args:
        config: of the model.
    """
    shape = config.shape
    return WeightSizes(
        depth=shape.depth,
        hidden=shape.hidden,
        patch=config.patch,
        channels=config.channels,
        context_dim=shape.context_dim,
        pooled_dim=shape.pooled_dim,
        qk_norm=shape.qk_norm,
        weight_sets=shape.weight_sets,
        learned_side=config.grid.side if shape.learned_positions else 0,
        size_conditioning=shape.size_conditioning,
    )


class PublishedAdapter(StateDictAdapter):
    """Whole state dicts between our parameters and a published layout.

    Fixed positions are no parameters of ours: they are added on the way out and checked on the way in.
    """

    layout: Layout

    def __init__(self, model_config: MMDiT.Config, hf_assets_path: str | None) -> None:
        # The base class would look for an index that names the files of a language model.
        self.model_config = model_config
        self.hf_assets_path = hf_assets_path
        self.fqn_to_index_mapping = None
        self.sizes = sizes_of_config(model_config)
        self.factor = factor_of(model_config)

    def to_hf(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Our parameters in the published layout.

        Args:
            state_dict: all of our parameters.

        Raises:
            InputError: the layout cannot hold the model.
        """
        tensors: dict[str, Tensor] = dict(state_dict)
        if POSITIONS not in tensors:
            tensors[POSITIONS] = self.model_config.grid.table(self.sizes.hidden)
        read = multiplied(tensors.__getitem__, self.factor)
        listed = entries(self.layout, self.sizes, self.model_config.grid.side)
        return {entry.theirs: to_theirs(entry, read) for entry in listed}

    def from_hf(self, hf_state_dict: dict[str, Any]) -> dict[str, Any]:
        """The published layout as our parameters.

        Args:
            hf_state_dict: all of their tensors.

        Raises:
            ValueError: its positions are not those of the model, whose positions are fixed.
        """
        side = self.model_config.grid.side
        shapes = parameter_shapes(self.sizes) | {POSITIONS: (side, side, self.sizes.hidden)}
        ours: dict[str, Tensor] = {}
        for entry in entries(self.layout, self.sizes, side):
            ours |= from_theirs(entry, hf_state_dict[entry.theirs], shapes)
        if not self.sizes.learned_side:
            self._check_positions(ours.pop(POSITIONS))
        read = multiplied(ours.__getitem__, lambda name: 1 / self.factor(name))
        return {name: read(name) for name in ours}

    def _check_positions(self, table: Tensor) -> None:
        fixed = self.model_config.grid.table(self.sizes.hidden)
        if (fixed - torch.as_tensor(table).float()).abs().max() > tolerance(table.dtype):
            raise ValueError(
                f"{self.layout.positions}: not the positions of this model; positions = 'learned' takes any table"
            )


class DiffusersAdapter(PublishedAdapter):
    """diffusers' SD3Transformer2DModel."""

    layout = DIFFUSERS


class StabilityAdapter(PublishedAdapter):
    """Stability's reference, without the prefix of its files."""

    layout = STABILITY

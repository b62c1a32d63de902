"""The two MM-DiTs that are compared, of one shape and with the same weights, and a batch for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prx_scale.models.convert.adapter import DiffusersAdapter
from prx_scale.models.embeddings import PositionGrid
from prx_scale.models.mmdit import MMDiT, mmdit_config
from prx_scale.models.sizes import Shape
from prx_scale.runtables import HEAD_DIM

PATCH = 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """One shape of model and batch; defaults are SD3's inputs."""

    depth: int
    width: int
    batch: int
    side: int = 16
    """Image tokens along each side of a square latent."""
    text: int = 154
    channels: int = 16
    context: int = 4096
    pooled: int = 2048

    @property
    def shape(self) -> Shape:
        """All sizes of the model."""
        return Shape(
            depth=self.depth,
            hidden=self.width,
            head_dim=HEAD_DIM,
            patch_dim=self.channels * PATCH**2,
            context_dim=self.context,
            pooled_dim=self.pooled,
            image_tokens=self.side**2,
            text_tokens=self.text,
            qk_norm=True,
        )

    def __str__(self) -> str:
        """As the tables name it."""
        return f"depth {self.depth}, width {self.width}, {self.side**2} + {self.text} tokens, batch {self.batch}"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step learns from."""

    z: Tensor
    t: Tensor
    context: Tensor
    pooled: Tensor
    target: Tensor


Loss = Callable[[nn.Module, Batch], Tensor]


def batch_of(case: Case, device: torch.device, seed: int = 0) -> Batch:
    """Random inputs of a case, float32."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).to(device)

    pixels = (case.batch, case.channels, case.side * PATCH, case.side * PATCH)
    return Batch(
        z=normal(*pixels),
        t=torch.rand(case.batch, generator=generator).to(device),
        context=normal(case.batch, case.text, case.context),
        pooled=normal(case.batch, case.pooled),
        target=normal(*pixels),
    )


def ours(case: Case, device: torch.device, prepare: Callable[[MMDiT], Any] | None = None) -> MMDiT:
    """Our model, with weights that are nowhere zero.

    Args:
        case: its shape.
        device: to build it on.
        prepare: compiles or shards it, while it is on the meta device.
    """
    grid = PositionGrid(side=case.side, image=case.side, base=case.side)
    config = mmdit_config(case.shape, channels=case.channels, patch=PATCH, grid=grid)
    with torch.device("meta"):
        model = config.build()
    if prepare is not None:
        prepare(model)
    model.to_empty(device=device)
    with torch.no_grad():
        model.init_weights()
        for i, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
            parameter.add_(_like(parameter, 0.02 * noise))
    return model.train()


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor, distribute_tensor

    value = value.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return value


def our_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of our prediction."""
    predicted = model(batch.z, t=batch.t, context=batch.context, pooled=batch.pooled)
    return F.mse_loss(predicted, batch.target)


def theirs(case: Case, source: MMDiT) -> nn.Module:
    """diffusers' model with the weights of ours.

    Args:
        case: its shape.
        source: our model, not sharded.
    """
    from diffusers import SD3Transformer2DModel

    with torch.device(source.patch_embed.weight.device):
        model = SD3Transformer2DModel(
            sample_size=case.side * PATCH,
            patch_size=PATCH,
            in_channels=case.channels,
            out_channels=case.channels,
            num_layers=case.depth,
            attention_head_dim=HEAD_DIM,
            num_attention_heads=case.width // HEAD_DIM,
            joint_attention_dim=case.context,
            caption_projection_dim=case.width,
            pooled_projection_dim=case.pooled,
            pos_embed_max_size=case.side,
            qk_norm="rms_norm",
        )
    _copy(source, model)
    return model.train()


def their_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of diffusers' prediction."""
    predicted = model(batch.z, batch.context, batch.pooled, timestep=1000 * batch.t, return_dict=False)[0]
    return F.mse_loss(predicted.float(), batch.target)


def _copy(source: MMDiT, target: nn.Module) -> None:
    """Our weights into diffusers' model; every one of its parameters is set."""
    given = DiffusersAdapter(source.config, None).to_hf(dict(source.named_parameters()))
    target.load_state_dict({name: value.detach().clone() for name, value in given.items()})

"""TorchTitan's Flux blocks beside ours: two-stream blocks of one width over the same tokens, bfloat16, compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from models import Case, ours
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Blocks with what a forward and backward pass of them needs."""

    modules: list[nn.Module]
    run: Callable[[list[nn.Module]], list[Tensor]]
    flops: int
    """Of a forward and backward pass, three forward passes."""

    def gradients(self) -> None:
        """Forward and backward."""
        for module in self.modules:
            module.zero_grad(set_to_none=True)
        outputs = self.run(self.modules)
        torch.stack([each.float().square().mean() for each in outputs]).sum().backward()


def blocks(case: Case, device: torch.device, backend: str) -> tuple[Blocks, Blocks]:
    """Our blocks without the last, whose text stream ends early, and as many of Flux's double-stream blocks.

    Args:
        case: the shape; a block less than its depth is run.
        device: of both.
        backend: of `torch.compile`.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).to(device, torch.bfloat16)

    image, text = normal(case.batch, case.side**2, case.width), normal(case.batch, case.text, case.width)
    condition = normal(case.batch, case.width)
    model = ours(case, device).to(torch.bfloat16)
    mine = list(model.layers.values())[:-1]
    yours = [_flux_block(case, device) for _ in mine]
    positions = _positions(case, device)

    def run_ours(modules: list[nn.Module]) -> list[Tensor]:
        streams = (image, text)
        for module in modules:
            streams = module(condition, *streams)
        return list(streams)

    def run_flux(modules: list[nn.Module]) -> list[Tensor]:
        x, y = image, text
        for module in modules:
            x, y = module(x, y, condition, positions)
        return [x, y]

    return _prepared(mine, run_ours, backend), _prepared(yours, run_flux, backend)


def _prepared(modules: list[nn.Module], run: Callable[[list[nn.Module]], list[Tensor]], backend: str) -> Blocks:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run(modules)
    for module in modules:
        module.compile(backend=backend)
    return Blocks(modules=modules, run=run, flops=3 * counter.get_total_flops())


def _flux_block(case: Case, device: torch.device) -> nn.Module:
    from torchtitan.models.flux import _make_double_block_config

    config = _make_double_block_config(
        hidden_size=case.width, num_heads=case.shape.hidden // case.shape.head_dim, mlp_ratio=4.0, qkv_bias=True
    )
    block = config.build().to(device, torch.bfloat16)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.02)
    return block


def _positions(case: Case, device: torch.device) -> Tensor:
    """Rotary positions of text and image tokens, as Flux orders them."""
    from torchtitan.models.flux.model.layers import EmbedND

    rows, columns = torch.meshgrid(torch.arange(case.side), torch.arange(case.side), indexing="ij")
    image = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1)
    ids = torch.cat([torch.zeros(case.text, 3), image.float()]).to(device).expand(case.batch, -1, -1)
    head = case.shape.head_dim
    axes = (head // 8, head // 16 * 7, head // 16 * 7)
    return EmbedND(EmbedND.Config(dim=head, theta=10_000, axes_dim=axes))(ids)

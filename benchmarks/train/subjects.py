"""The two models as they are trained: precision, compilation and optimiser of each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from models import Batch, Case, Loss, batch_of, our_loss, ours, their_loss, theirs
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy

Precision = Literal["float32", "bf16", "bf16-weights"]
PRECISIONS: dict[Precision, str] = {
    "float32": "float32",
    "bf16": "bfloat16 products, float32 weights: ours by FSDP2 without resharding, diffusers by autocast",
    "bf16-weights": "bfloat16 weights in both, a control",
}
LEARNING_RATE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with what one step of it needs."""

    model: nn.Module
    loss: Loss
    batch: Batch
    autocast: bool = False

    def gradients(self) -> None:
        """Forward and backward."""
        self.model.zero_grad(set_to_none=True)
        kind = self.batch.t.device.type
        with torch.autocast(kind, torch.bfloat16) if self.autocast else nullcontext():
            loss = self.loss(self.model, self.batch)
        loss.backward()

    def step(self, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        """Forward, backward and optimiser."""

        def run() -> None:
            self.gradients()
            optimizer.step()

        return run


def pair(
    case: Case, precision: Precision, device: torch.device, *, backend: str | None
) -> dict[str, Callable[[], Any]]:
    """What is timed in turns: gradients alone, and whole steps.

    `theirs` is diffusers' model with the optimiser of its training scripts, AdamW by torch's default, which is fused
    nowhere; `theirs, fused` is with ours.

    Args:
        case: the shape.
        precision: of both.
        device: of both.
        backend: of `torch.compile`, None for eager; ours block by block, as the trainer does;
            diffusers' as a whole, as its users do.
    """
    mine = our_subject(case, precision, device, backend=backend)
    yours = their_subject(case, precision, device, backend=backend)
    check(mine, yours, precision)
    return {
        "ours, gradients": mine.gradients,
        "theirs, gradients": yours.gradients,
        "ours": mine.step(adamw(mine.model, fused=True)),
        "theirs": yours.step(adamw(yours.model, fused=None)),
        "theirs, fused": yours.step(adamw(yours.model, fused=True)),
    }


def adamw(model: nn.Module, *, fused: bool | None) -> torch.optim.Optimizer:
    """AdamW; fused is what TorchTitan's optimiser container, and so our trainer, has by default."""
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, fused=fused)


def our_subject(case: Case, precision: Precision, device: torch.device, *, backend: str | None) -> Subject:
    """Our model as the trainer prepares it."""

    def prepare(model: nn.Module) -> None:
        if backend:
            for block in model.get_submodule("layers").children():
                block.compile(backend=backend, fullgraph=True)
        if precision == "bf16":
            _shard(model, device)

    model = ours(case, device, prepare)
    batch = batch_of(case, device)
    if precision == "bf16-weights":
        model.to(torch.bfloat16)
    return Subject(model=model, loss=our_loss, batch=batch)


def _shard(model: nn.Module, device: torch.device) -> None:
    from parallel.parallelize import shard

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    shard(model, init_device_mesh(device.type, (1,)), policy, "never")


def their_subject(case: Case, precision: Precision, device: torch.device, *, backend: str | None) -> Subject:
    """diffusers' model with the same weights, as its training scripts prepare it."""
    model, batch = theirs(case, ours(case, device)), batch_of(case, device)
    if precision == "bf16-weights":
        model.to(torch.bfloat16)
        half = {name: getattr(batch, name).bfloat16() for name in ("z", "context", "pooled")}
        batch = replace(batch, **half)
    if backend:
        model.compile(backend=backend)
    return Subject(model=model, loss=their_loss, batch=batch, autocast=precision == "bf16")


def check(mine: Subject, yours: Subject, precision: Precision) -> None:
    """Both compute the same function.

    Raises:
        SystemExit: they do not, so their times would mean nothing.
    """
    tolerance = 1e-5 if precision == "float32" and mine.batch.t.device.type == "cpu" else 3e-2
    with torch.no_grad(), torch.autocast(mine.batch.t.device.type, torch.bfloat16, enabled=yours.autocast):
        expected = yours.loss(yours.model, yours.batch).item()
    with torch.no_grad():
        found = mine.loss(mine.model, mine.batch).item()
    if abs(found - expected) > tolerance * expected:
        raise SystemExit(f"the models differ: loss {found} and {expected}; their times are not comparable")

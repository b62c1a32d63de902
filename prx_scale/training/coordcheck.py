"""The coordinate check: how large activations are, and how far they move, at several widths after a few steps.

Under muP what a step does to an activation does not depend on the width (Yang et al. 2022, arXiv 2203.03466, appendix
D.1). adaLN-zero starts with all gates and the last projection at zero: the first step moves only the projection, the
second also the gates and what the last norm reads, and matrices behind the gates move from the third on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prx_scale.config import RunConfig
from prx_scale.data.opening import Dataset, of_one_shape, open_dataset
from prx_scale.diffusion.paths import interpolate, velocity
from prx_scale.models.blocks import JointAttention, JointBlock
from prx_scale.models.mmdit import MMDiT, backbone_config, visible_keys
from prx_scale.training.batches import Batch, training_batch, validation_batch
from prx_scale.training.optimizers import optimizers_config
from prx_scale.training.validation import items_of
from scaling.coordinates import Coordinate

PROBES = 32
"""Held-out items on which activations are measured."""
Hook = Callable[..., Any]


def coordinate_check(
    run: RunConfig,
    *,
    widths: Sequence[int],
    base_width: int,
    steps: int,
    seeds: int,
    show: Callable[[str], None] = lambda text: None,
) -> list[Coordinate]:
    """Train a model of each width for a few steps, with and without muP, and measure its activations after each.

    The rate is constant from the first step, as a warm-up longer than the check would show nothing. Everything else is
    the run's: batch, optimiser, clipping, data.

    Args:
        run: what is checked; its width is replaced.
        widths: multiples of 64.
        base_width: of muP.
        steps: optimiser steps.
        seeds: repetitions, from the run's seed on.
        show: is told what is under way.

    Returns:
        A row for every parametrisation, width, seed, step and activation.
    """
    rows: list[Coordinate] = []
    for base in (0, base_width):
        for width in widths:
            model = replace(run.model, width=width, mup_base_width=base)
            for seed in range(run.training.seed, run.training.seed + seeds):
                show(f"width {width}, {'muP' if base else 'standard'}, seed {seed}")
                each = replace(run, model=model, training=replace(run.training, seed=seed))
                rows.extend(trajectory(each, steps))
    return rows


def trajectory(run: RunConfig, steps: int) -> Iterator[Coordinate]:
    """The activations of one model before training and after each step.

    Args:
        run: says all about the model and its training but the schedule.
        steps: optimiser steps.
    """
    model = _model(run)
    optimizers = optimizers_config(run).build(model_parts=[model])
    train, probe = open_dataset(run, "train"), _probe(run)
    start: dict[str, Tensor] = {}
    for step in range(steps + 1):
        if step:
            _step(run, model, train, step - 1)
            optimizers.step()
            optimizers.zero_grad()
        values = activations(model, probe)
        start = start or values
        for quantity, value in values.items():
            yield Coordinate(
                scheme="muP" if run.model.mup_base_width else "standard",
                width=run.model.hidden,
                seed=run.training.seed,
                step=step,
                quantity=quantity,
                size=_rms(value),
                change=_rms(value - start[quantity]),
            )


def _model(run: RunConfig) -> MMDiT:
    config = backbone_config(run)
    config.seed = run.training.seed
    with torch.device("meta"):
        model = config.build()
    model.to_empty(device="cpu")
    with torch.no_grad():
        model.init_weights()
    return model


def _probe(run: RunConfig) -> Batch:
    dataset = open_dataset(run, "heldout")
    images = of_one_shape(dataset, PROBES)[0]
    return validation_batch(run, dataset, items_of(images, run.validation.levels)[:PROBES])


def _step(run: RunConfig, model: MMDiT, dataset: Dataset, step: int) -> None:
    """Gradients of one batch, clipped as in training."""
    batch = training_batch(run, dataset, np.arange(step * run.training.batch, (step + 1) * run.training.batch))
    error = _forward(model, batch) - velocity(batch.x0, batch.noise)
    error.square().mean().backward()
    nn.utils.clip_grad_norm_(model.parameters(), run.training.max_norm)


def _forward(model: MMDiT, batch: Batch) -> Tensor:
    return model(interpolate(batch.x0, batch.noise, batch.t), **batch.conditions)


@torch.no_grad()
def activations(model: MMDiT, batch: Batch) -> dict[str, Tensor]:
    """Embedded inputs, what each block makes of its streams, its modulations and attention logits, and the output.

    Args:
        model: any width.
        batch: what it is shown.
    """
    seen: dict[str, Tensor] = {}
    with _watching(model, seen):
        seen["output"] = _forward(model, batch)
    return seen if batch.mask is None else _without_padding(seen, batch.mask)


def _without_padding(seen: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """What is left of text tokens and logits without the padding, which nothing attends to.

    Args:
        seen: activations by name.
        mask: (B, L), true at real tokens.
    """

    def kept(name: str, value: Tensor) -> Tensor:
        if name.endswith("text"):  # the first weight set's tokens come first
            return value[mask[:, : value.shape[1]]]
        if name.endswith("logits"):
            real = visible_keys(mask, value.shape[-1] - mask.shape[1])[:, 0, 0]
            return value.permute(0, 2, 3, 1)[real[:, :, None] & real[:, None, :]]
        return value

    return {name: kept(name, value) for name, value in seen.items()}


@contextmanager
def _watching(model: MMDiT, seen: dict[str, Tensor]) -> Iterator[None]:
    handles = [
        module.register_forward_hook(_keep(seen, name))
        for name, module in (
            ("patches", model.patch_embed),
            ("text", model.context_embed),
            ("time", model.time_embed),
            ("pooled", model.pooled_embed),
            *([("size", model.size_embed)] if model.size_embed is not None else []),
        )
        if module is not None
    ]
    for number, block in model.layers.items():
        assert isinstance(block, JointBlock)
        handles.append(block.image.ada.register_forward_hook(_keep(seen, f"block {number} modulation")))
        handles.append(block.attention.register_forward_pre_hook(_keep_logits(seen, f"block {number} logits")))
        handles.append(block.register_forward_hook(_keep_streams(seen, f"block {number}", block.text.pre_only)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep(seen: dict[str, Tensor], name: str) -> Hook:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen[name] = output

    return hook


def _keep_logits(seen: dict[str, Tensor], name: str) -> Hook:
    def hook(module: JointAttention, inputs: tuple[Tensor, ...]) -> None:
        q_BLHK, k_BNHK, _ = inputs
        seen[name] = torch.einsum("blhk,bnhk->bhln", q_BLHK, k_BNHK) * module.scale

    return hook


def _keep_streams(seen: dict[str, Tensor], name: str, pre_only: bool) -> Hook:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        seen[f"{name} image"] = output[0]
        if not pre_only:
            seen[f"{name} text"] = output[1]

    return hook


def _rms(value: Tensor) -> float:
    return float(value.double().square().mean().sqrt())

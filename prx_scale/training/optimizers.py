"""From a run's configuration to its optimisers, one group of parameters for each learning rate, and their schedule."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import Any

from parallel.titan import LRSchedules, Optimizers, OptimizersContainer, ParamGroupConfig
from prx_scale.config import RunConfig
from prx_scale.models.build import parametrisation_of
from prx_scale.models.mup import PARTS, Multipliers, Parametrisation, Part
from prx_scale.runtables import Training
from prx_scale.stages import rate_factor, resolve

NEWTON_SCHULZ_STEPS = 5


def optimizers_config(run: RunConfig) -> OptimizersContainer.Config:
    """The optimisers of a run.

    AdamW has everything, or, with Muon, all but the matrices that blocks apply to every token (q, k, v, out and those
    of the MLP). adaLN's matrices stay with AdamW: they act once an image, so their gradients have at most the rank of
    the batch, and making all singular values of such an update equal would make most of it noise. So do embedders,
    positions and the last projection, which are not hidden matrices, and biases and norms, which are not matrices.

    Parameters whose rates, decays and eps are equal share a group; where all are, it is the one of plain AdamW.

    Args:
        run: the run.
    """
    training, parametrisation = run.training, parametrisation_of(run.model)
    groups: list[ParamGroupConfig] = []
    for part in PARTS:
        name, options = _group(training, parametrisation, part)
        twin = next((each for each in groups if (each.optimizer_name, each.optimizer_kwargs) == (name, options)), None)
        if twin is None:
            groups.append(ParamGroupConfig(pattern=part.pattern, optimizer_name=name, optimizer_kwargs=options))
        else:
            twin.pattern = f"{twin.pattern}|{part.pattern}"
    if len(groups) == 1:
        groups[0].pattern = ".*"
    return Optimizers.Config(param_groups=groups)


def _group(training: Training, parametrisation: Parametrisation, part: Part) -> tuple[str, dict[str, Any]]:
    """The optimiser of a part, and its options."""
    if training.optimizer == "muon" and part.tokens:
        rms_matched = training.muon_adjust == "match_rms_adamw"
        return "Muon", _muon(training, parametrisation.muon(rms_matched=rms_matched))
    return "AdamW", _adamw(training, parametrisation.adam(part))


def _adamw(training: Training, multipliers: Multipliers) -> dict[str, Any]:
    return {
        "lr": training.lr * multipliers.lr,
        "betas": (training.beta1, training.beta2),
        "eps": training.eps * multipliers.eps,
        "weight_decay": training.weight_decay * multipliers.weight_decay,
    }


def _muon(training: Training, multipliers: Multipliers) -> dict[str, Any]:
    return {
        "lr": (training.muon_lr or training.lr) * multipliers.lr,
        "momentum": training.muon_momentum,
        "nesterov": True,
        "ns_steps": NEWTON_SCHULZ_STEPS,
        "weight_decay": training.weight_decay * multipliers.weight_decay,
        "adjust_lr_fn": training.muon_adjust,
    }


def schedule_config(run: RunConfig) -> LRSchedules.Config:
    """The schedule of every group's learning rate.

    Args:
        run: the run; where it has stages, their rates and warm-ups are among the changes.
    """
    training = run.training
    if run.stages:
        return _staged(run)
    return LRSchedules.Config(
        warmup_steps=training.warmup,
        total_steps=training.steps,
        decay_ratio=training.decay_ratio,
        decay_type=training.decay_type,
        min_lr_factor=training.min_lr_factor,
        base_lr=training.lr,
        change_steps=training.lr_change_steps,
        change_factors=training.lr_change_factors,
    )


def _staged(run: RunConfig) -> LRSchedules.Config:
    training, stages = run.training, resolve(run)
    warm = {step for stage in stages for step in range(stage.first, stage.first + stage.warmup + 1)}
    steps = sorted(step for step in {*warm, *training.lr_change_steps} if step < training.steps)
    changes = (1.0, *training.lr_change_factors)
    alone = schedule_config(replace(run, stages=(), training=replace(training, warmup=0)))
    alone.change_steps = tuple(steps)
    alone.change_factors = tuple(
        rate_factor(stages, training.lr, step) * changes[bisect_right(training.lr_change_steps, step)] for step in steps
    )
    return alone

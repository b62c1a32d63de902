"""What of a study file is refused before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prx_scale.config import RunConfig
from prx_scale.errors import InputError, nearest
from prx_scale.layout import check_layout
from prx_scale.models.build import position_side
from prx_scale.runtables import HEAD_DIM, Training
from prx_scale.stages import as_run, check_stages, resolve
from prx_scale.stores import check_store


def check_run(run: RunConfig, where: str) -> None:
    """Refuse a run that cannot be trained.

    Args:
        run: with its data and steps filled in.
        where: file and variant, for errors.

    Raises:
        InputError: names the table and key, what is wrong and what would be right.
    """
    check_store(run, where)
    _check_model(run, where)
    check_layout(run, where)
    if run.training.warmup > run.training.steps:
        raise InputError(
            f"{where} [training] warmup: {run.training.warmup} is more than the {run.training.steps} steps of the run"
        )
    _check_schedule(run.training, where)
    check_stages(run, where)
    for stage in resolve(run) if run.stages else ():
        model = replace(run.model, position_grid=position_side(run))
        alone = replace(as_run(run, stage), model=model)
        check_store(alone, f"{where} [[stage]] '{stage.name}'")
        check_layout(alone, f"{where} [[stage]] '{stage.name}'")
    if run.checkpoint.keep == 1:
        raise InputError(
            f"{where} [checkpoint] keep: 1 could leave none that is complete; use 0 for all, or 2 and more"
        )
    if run.parallel.micro_batch and run.training.batch % run.parallel.micro_batch:
        raise InputError(
            f"{where} [parallel] micro_batch: {run.parallel.micro_batch} does not divide "
            f"[training] batch {run.training.batch}"
        )


def _check_model(run: RunConfig, where: str) -> None:
    model, data = run.model, run.data
    if data.image_size % (data.downsampling * model.patch):
        latent = f" of latents of {data.downsampling} pixels" if data.downsampling > 1 else ""
        raise InputError(
            f"{where} [model] patch: {model.patch}{latent} does not divide [data] image_size {data.image_size}"
        )
    if model.width % HEAD_DIM:
        raise InputError(f"{where} [model] width: {model.width} is not a multiple of {HEAD_DIM}, the width of a head")
    if model.mup_base_width % HEAD_DIM:
        raise InputError(
            f"{where} [model] mup_base_width: {model.mup_base_width} is not a multiple of {HEAD_DIM}, "
            "the width of a head; 0 is off"
        )
    if model.weight_sets == 3 and data.dataset == "shapes" and data.encoders == 1:
        raise InputError(
            f"{where} [model] weight_sets: 3 needs text tokens of two encoders; set [data] encoders = 2, or use 2 sets"
        )
    if model.position_grid and model.position_grid < run.grid_side:
        raise InputError(
            f"{where} [model] position_grid: {model.position_grid} patches along a side are fewer than the "
            f"{run.grid_side} of an image; 0 takes the image's own"
        )


def _check_schedule(training: Training, where: str) -> None:
    steps, factors = training.lr_change_steps, training.lr_change_factors
    if len(steps) != len(factors):
        raise InputError(
            f"{where} [training] lr_change_factors: {len(factors)} for {len(steps)} lr_change_steps; one for each"
        )
    if list(steps) != sorted(set(steps)) or any(not 1 <= step < training.steps for step in steps):
        raise InputError(
            f"{where} [training] lr_change_steps: {list(steps)} must ascend and lie in 1 to {training.steps - 1}, "
            f"within the {training.steps} steps of the run"
        )
    if training.warmup + round(training.decay_ratio * training.steps) > training.steps:
        raise InputError(
            f"{where} [training] decay_ratio: {training.decay_ratio:g} of {training.steps} steps overlaps the warm-up "
            f"of {training.warmup}"
        )
    if any(factor <= 0 for factor in factors):
        raise InputError(f"{where} [training] lr_change_factors: {list(factors)} must all be above 0")


def check_runs(runs: Sequence[RunConfig], holdout: Sequence[str], file: Path) -> None:
    """Refuse runs that do not go together.

    Args:
        runs: of a study.
        holdout: variants that are predicted, not fitted.
        file: the study file, for errors.

    Raises:
        InputError: two variants make the same run, or a variant to hold out does not exist.
    """
    seen: dict[str, RunConfig] = {}
    for run in runs:
        twin = seen.setdefault(replace(run, variant="base").id, run)
        if twin is not run:
            raise InputError(
                f"{file}: variants '{twin.variant}' and '{run.variant}' make the same run {run.id}; "
                "give each what sets it apart"
            )
    names = {run.variant for run in runs}
    for name in holdout:
        if name not in names:
            raise InputError(f"{file}: [fit] holdout: no variant '{name}'; {nearest(name, names)}")

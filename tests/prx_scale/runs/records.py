"""Rows and a run.json as training would write them."""

from __future__ import annotations

from prx_scale.runs.clock import now
from prx_scale.runs.info import Parameters, RunInfo, State
from prx_scale.runs.rows import TrainRow, ValidationRow, Weights


def make_info(run: str = "d1-s0-00000000", **changes: object) -> RunInfo:
    fields: dict[str, object] = {
        "run": run,
        "study": "test",
        "variant": "base",
        "state": State.RUNNING,
        "config": {"training": {"batch": 4}},
        "depth": 1,
        "seed": 0,
        "parameters": Parameters(backbone=10, embedding=5, by_part={"blocks": 10, "patch_embed": 5}),
        "flops_per_sample": 7,
        "tokens_per_sample": 16,
        "versions": {"python": "3"},
        "device": "cpu",
        "world_size": 1,
        "steps": 100,
        "created": now(),
        "updated": now(),
    }
    return RunInfo(**{**fields, **changes})  # type: ignore[arg-type]


def train_row(step: int, loss: float = 0.5) -> TrainRow:
    return TrainRow(
        step=step,
        samples=4 * step,
        tokens=64 * step,
        flops=28.0 * step,
        loss=loss,
        lr=1e-3,
        grad_norm=0.1,
        samples_per_second=9.0,
        mfu=None,
        memory_gib=0.5,
        time=now(),
    )


def validation_row(step: int, weights: Weights = "ema", loss: float = 0.5) -> ValidationRow:
    return ValidationRow(
        step=step,
        samples=4 * step,
        tokens=64 * step,
        flops=28.0 * step,
        weights=weights,
        split="heldout",
        loss=loss,
        levels=[0.5, 1.0],
        loss_per_level=[loss, 1.0],
        n=8,
    )

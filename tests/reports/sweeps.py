"""A study of learning rates and a coordinate check, made up from known curves."""

from __future__ import annotations

import math
from pathlib import Path

from prx_scale.runs.info import Parameters, RunInfo, State
from prx_scale.runs.record import RunRecord
from prx_scale.runs.rows import ValidationRow
from scaling.coordinates import Coordinate, Scheme

RATES = [0.002, 0.004, 0.008, 0.016, 0.032]


def write_run(study: Path, width: int, lr: float, seed: int, best: float, *, base: int = 0, batch: int = 32) -> None:
    """A finished run whose loss is a parabola in log2 of the rate."""
    name = f"d1-s{seed}-w{width}b{base}x{batch}r{lr:g}".replace(".", "")
    info = RunInfo(
        run=name,
        study="rates",
        variant="mup" if base else "base",
        state=State.DONE,
        config={
            "variant": "mup" if base else "base",
            "model": {"depth": 1, "width": width, "mup_base_width": base, "mup_base_depth": 0},
            "training": {"lr": lr, "seed": seed, "batch": batch, "steps": 10},
        },
        depth=1,
        seed=seed,
        parameters=Parameters(backbone=25 * width**2, embedding=1000, by_part={"blocks": 25 * width**2}),
        flops_per_sample=1000 * width**2,
        tokens_per_sample=16,
        versions={"python": "3.11"},
        commit=None,
        dirty=None,
        device="cpu",
        world_size=1,
        steps=10,
        step=10,
        created="2026-01-02T03:04:05+00:00",
        updated="2026-01-02T04:04:05+00:00",
    )
    loss = 0.1 + 0.01 * math.log2(lr / (best * 2 ** (0.1 * (seed - 1)))) ** 2
    row = ValidationRow(
        step=10,
        samples=10 * batch,
        tokens=160 * batch,
        flops=1e4 * width**2 * batch,
        weights="ema",
        split="heldout",
        loss=loss,
        levels=[0.5, 1.0],
        loss_per_level=[loss, 1.0],
        n=8,
    )
    record = RunRecord(study / "runs" / name)
    record.write(info)
    record.append_all([row])


def write_sweep(study: Path) -> None:
    """Three widths, best at rates that halve without muP and stay with it."""
    for lr in RATES:
        for seed in (0, 1, 2):
            for width, best in ((64, 0.016), (128, 0.008), (256, 0.004)):
                write_run(study, width, lr, seed, best)
            for width in (128, 256):
                write_run(study, width, lr, seed, 0.016, base=64)


def coordinates() -> list[Coordinate]:
    """Activations that grow as the width without muP, and hardly move with it."""
    powers: dict[Scheme, float] = {"standard": 1.0, "muP": -0.02}
    names = ("time", "block 0 modulation", "block 0 logits", "block 0 image", "block 0 text", "output")
    return [
        Coordinate(
            scheme=scheme, width=w, seed=0, step=k, quantity=name, size=1.0, change=k * w**power / 10 ** (3 + n / 4)
        )
        for scheme, power in powers.items()
        for w in (64, 128, 256)
        for k in (0, 3)
        for n, name in enumerate(names)
    ]

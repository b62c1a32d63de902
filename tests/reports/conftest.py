"""A synthetic study, written through the run record's own writer: losses lie on a known surface."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

import scaling
from prx_scale.runs.info import Parameters, RunInfo, State
from prx_scale.runs.record import RunRecord
from prx_scale.runs.rows import EvaluationRow, TrainRow, ValidationRow
from scaling.backtest import backtest
from scaling.backtest_records import Backtest

BATCH = 64
TOKENS = 64
LEVELS = [k / 8 for k in range(1, 9)]
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
PROMPTS = {
    "single_object": ["a photo of a circle", "a photo of a square"],
    "two_object": ["a photo of a circle and a star"],
    "counting": ["a photo of three triangles"],
    "colors": ["a photo of a red square", "a photo of a blue star"],
    "position": ["a photo of a circle left of a square"],
    "color_attr": ["a photo of a red circle and a <script>alert('prompt')</script> square"],
}
STUDY_FILE = """
[study]
name = "synthetic"
description = "losses on a known surface"
[fit]
holdout = ["held-out"]
"""
VERSIONS = {"prx_scale": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "torchtitan": "0.3.0"}


def surface(params: float, samples: float) -> float:
    """The loss that the synthetic runs follow."""
    return 0.2 + 8 / params**0.35 + 3.0 / samples**0.4


def params_of(depth: int) -> int:
    """Backbone parameters of a synthetic run."""
    return 130_000 * depth**3


def write_run(
    study: Path,
    depth: int,
    seed: int,
    *,
    steps: int = 600,
    state: State = State.DONE,
    variant: str = "base",
    **changes: Any,
) -> RunInfo:
    """Write one run with its three tables."""
    name = f"d{depth}{'' if variant == 'base' else '-' + variant}-s{seed}-{depth}{seed}ab12cd"
    config = {
        "study": "synthetic",
        "smoke": False,
        "model": {"depth": depth, "patch": 2},
        "data": {"dataset": "shapes", "image_size": 16},
        "training": {"steps": steps, "batch": BATCH, "lr": 1e-3, "seed": seed},
    }
    config.update(changes.pop("config", {}))
    info = RunInfo(
        run=name,
        study="synthetic",
        variant=variant,
        state=state,
        config=config,
        depth=depth,
        seed=seed,
        parameters=Parameters(backbone=params_of(depth), embedding=90_000, by_part={"blocks": params_of(depth)}),
        flops_per_sample=6 * TOKENS * params_of(depth),
        tokens_per_sample=TOKENS,
        versions=VERSIONS,
        commit="5a42468" * 5,
        dirty=False,
        device="cpu",
        world_size=1,
        steps=steps,
        step=changes.pop("step", steps),
        created="2026-01-02T03:04:05+00:00",
        updated="2026-01-02T04:04:05+00:00",
        wall_seconds=95.0 * depth**2,
        **changes,
    )
    record = RunRecord(study / "runs" / name)
    record.write(info)
    rng = np.random.default_rng(depth * 10 + seed)
    for step in range(50, info.step + 1, 50):
        record.append(_train_row(step, info, rng))
        record.append_all([_validation_row(step, info, rng, weights) for weights in ("raw", "ema")])
    return info


def _counted(step: int, info: RunInfo) -> dict[str, Any]:
    samples = step * BATCH
    return {
        "step": step,
        "samples": samples,
        "tokens": samples * TOKENS,
        "flops": float(samples * info.flops_per_sample),
    }


def _train_row(step: int, info: RunInfo, rng: np.random.Generator) -> TrainRow:
    loss = surface(info.parameters.backbone, step * BATCH) * (1 + rng.normal(0, 0.03))
    return TrainRow(
        **_counted(step, info),
        loss=loss,
        lr=1e-3,
        grad_norm=0.7,
        samples_per_second=400.0,
        mfu=None,
        memory_gib=0.4,
        time="2026-01-02T03:05:00+00:00",
    )


def _validation_row(step: int, info: RunInfo, rng: np.random.Generator, weights: Any) -> ValidationRow:
    loss = surface(info.parameters.backbone, step * BATCH) * (1 + rng.normal(0, 0.003))
    loss *= 1.03 if weights == "raw" else 1.0
    shape = np.array([1.5, 1.25, 1.05, 0.9, 0.8, 0.75, 0.75])
    per_level = [*(loss * shape / shape.mean()), loss * 1.8]
    return ValidationRow(
        **_counted(step, info),
        weights=weights,
        split="heldout",
        loss=loss,
        levels=LEVELS,
        loss_per_level=[float(value) for value in per_level],
        n=128,
    )


def write_scores(study: Path, info: RunInfo, step: int) -> None:
    """Write GenEval rows that follow the loss."""
    rng = np.random.default_rng(info.depth * 100 + info.seed + step)
    base = 1.6 - 3.4 * surface(info.parameters.backbone, step * BATCH)
    rows: list[EvaluationRow] = []
    for hard, task in enumerate(("overall", *TASKS)):
        shift = 0.0 if task == "overall" else 0.35 - 0.1 * hard
        value = float(np.clip(base + shift + rng.normal(0, 0.03), 0.02, 0.98))
        n = 192 if task == "overall" else 32
        rows.append(
            EvaluationRow(
                step=step,
                weights="ema",
                metric=f"geneval/{task}",
                value=value,
                stderr=(value * (1 - value) / n) ** 0.5,
                n=n,
                sampler="euler",
                steps=20,
                guidance=3.0,
                source="shapes-detector",
            )
        )
    RunRecord(study / "runs" / info.run).append_all(rows)


def write_samples(study: Path, info: RunInfo, step: int) -> None:
    """Write small pictures with their prompts."""
    rng = np.random.default_rng(info.depth)
    folder = study / "runs" / info.run / "samples" / f"step-{step:06d}-ema"
    rows: list[dict[str, Any]] = []
    prompts = [(tag, prompt) for tag, several in PROMPTS.items() for prompt in several]
    for prompt_id, (tag, prompt) in enumerate(prompts):
        for image in range(2):
            file = f"{prompt_id:05d}/{image:04d}.png"
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(picture(rng))
            correct = bool(rng.random() < 0.25 * info.depth)
            reason = "" if correct else "expected 1 red square, found none"
            rows.append(
                {
                    "file": file,
                    "prompt_id": prompt_id,
                    "image": image,
                    "tag": tag,
                    "prompt": prompt,
                    "correct": correct,
                    "reason": reason,
                }
            )
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def picture(rng: np.random.Generator) -> bytes:
    """A 16 x 16 PNG with one coloured square."""
    pixels = np.full((16, 16, 3), 235, dtype=np.uint8)
    x, y = rng.integers(1, 8, size=2)
    pixels[y : y + 7, x : x + 7] = rng.integers(0, 255, size=3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_fit(study: Path, fitted: list[RunInfo], heldout: RunInfo) -> None:
    """Fit the small runs, write the prediction for the large one and how it fared."""
    rows = [row for info in fitted for row in _points(study, info)]
    frame = pl.DataFrame(rows)
    fit = study / "fit"
    fit.mkdir(parents=True, exist_ok=True)
    frame.write_csv(fit / "points.csv")
    points = scaling.Points(
        params=frame["params"].to_numpy(),
        data=frame["data"].to_numpy(),
        loss=frame["loss"].to_numpy(),
        flops=frame["flops"].to_numpy(),
        cluster=np.asarray(frame["run"].to_list()),
    )
    result = scaling.fit(points, law="chinchilla", bootstrap=100)
    (fit / "fit.json").write_text(json.dumps(result.to_json()), encoding="utf-8")
    last = _points(study, heldout)[-1]
    loss = float(result.predict(last["params"], last["data"]))
    low, high = (float(bound) for bound in result.predict_interval(last["params"], last["data"]))
    where = {key: last[key] for key in ("params", "data", "flops")}
    prediction = {"depth": heldout.depth, **where, "loss": loss, "interval": [low, high], "step": heldout.steps}
    head = {"schema": 1, "made": "2026-01-02T03:30:00+00:00", "law": "chinchilla", "level": 0.8}
    (fit / "prediction.json").write_text(json.dumps({**head, "predictions": [prediction]}), encoding="utf-8")
    held = low <= last["loss"] <= high
    check = {
        "run": heldout.run,
        "depth": heldout.depth,
        **where,
        "predicted": loss,
        "interval": [low, high],
        "level": 0.8,
        "measured": last["loss"],
        "held": held,
        "error_relative": 1 - loss / last["loss"],
    }
    sentence = f"Depth {heldout.depth} was predicted at {loss:.4f} and reached {last['loss']:.4f}."
    verdict = {"schema": 1, "checks": [check], "sentence": sentence}
    (fit / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")


def _points(study: Path, info: RunInfo) -> list[dict[str, Any]]:
    lines = (study / "runs" / info.run / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        {
            "params": info.parameters.backbone,
            "data": row["samples"],
            "flops": row["flops"],
            "loss": row["loss"],
            "run": info.run,
            "depth": info.depth,
            "seed": info.seed,
            "step": row["step"],
        }
        for row in rows
        if row["weights"] == "ema" and row["step"] > 100
    ]


def write_study(study: Path) -> Path:
    """A whole study: depths 1 to 3 with two seeds fitted, depth 4 held out, one failed run."""
    study.mkdir(parents=True, exist_ok=True)
    (study / "study.toml").write_text(STUDY_FILE, encoding="utf-8")
    fitted = [write_run(study, depth, seed) for depth in (1, 2, 3) for seed in (0, 1)]
    heldout = write_run(study, 4, 0, variant="held-out")
    write_run(
        study,
        4,
        1,
        variant="held-out",
        state=State.FAILED,
        step=250,
        last_good_step=200,
        reason="the loss became nan at step 231 <b>bold</b>",
    )
    for info in (*fitted, heldout):
        for step in (300, 600):
            write_scores(study, info, step)
        write_samples(study, info, 600)
    write_fit(study, fitted, heldout)
    return study


@pytest.fixture(scope="session")
def full_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study; do not write into it."""
    return write_study(tmp_path_factory.mktemp("reports") / "synthetic")


@pytest.fixture(scope="session")
def synthetic_fit() -> tuple[scaling.FitResult, scaling.Points]:
    """A fit of points on the known surface, with a prediction."""
    rng = np.random.default_rng(0)
    params = np.repeat([params_of(depth) for depth in (1, 2, 3)], 10).astype(float)
    data = np.tile(np.geomspace(2e3, 6e4, 10), 3)
    loss = np.array([surface(n, d) for n, d in zip(params, data, strict=True)]) * np.exp(rng.normal(0, 0.003, 30))
    cluster = np.repeat(["a", "b", "c"], 10)
    points = scaling.Points(params=params, data=data, loss=loss, flops=6 * TOKENS * params * data, cluster=cluster)
    return scaling.fit(points, law="chinchilla", bootstrap=100, predict=[(8e6, 1e5)]), points


@pytest.fixture(scope="session")
def fit_of_many_sizes() -> tuple[scaling.FitResult, scaling.Points]:
    """A fit of as many model sizes as points, with compute."""
    rng = np.random.default_rng(1)
    params = np.geomspace(1e7, 1e10, 40)
    data = params * rng.uniform(5, 40, 40)
    loss = (1.8 + 400 / params**0.34 + 410 / data**0.28) * np.exp(rng.normal(0, 0.004, 40))
    points = scaling.Points(params=params, data=data, loss=loss, flops=6 * params * data)
    return scaling.fit(points, bootstrap=50), points


@pytest.fixture(scope="session")
def backtest_of_many(fit_of_many_sizes: tuple[scaling.FitResult, scaling.Points]) -> Backtest:
    """A backtest of two laws with intervals."""
    return backtest(fit_of_many_sizes[1], max_cuts=5, bootstrap=30)


@dataclass(frozen=True, kw_only=True)
class StudyWriter:
    """The writers above, for tests that build a study of their own."""

    run: Callable[..., RunInfo] = write_run
    scores: Callable[[Path, RunInfo, int], None] = write_scores
    samples: Callable[[Path, RunInfo, int], None] = write_samples
    fit: Callable[[Path, list[RunInfo], RunInfo], None] = write_fit


@pytest.fixture(scope="session")
def writer() -> StudyWriter:
    """Writers of single runs, scores, samples and fits."""
    return StudyWriter()

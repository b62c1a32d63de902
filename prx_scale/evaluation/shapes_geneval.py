"""GenEval of a run's checkpoints: sample the prompts, detect the shapes, judge by GenEval's rules, record."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prx_scale.config import RunConfig
from prx_scale.data.shapes.detector import detect
from prx_scale.evaluation.geneval import Prompt, Verdict, judge, write_prompts
from prx_scale.evaluation.geneval_scores import Graded, Score, score
from prx_scale.evaluation.sampling import sample
from prx_scale.evaluation.shapes_prompts import SHAPES_RULES, shapes_prompts
from prx_scale.evaluation.weights import load_model
from prx_scale.runs.files import write_atomically
from prx_scale.runs.info import RunInfo
from prx_scale.runs.record import RunRecord
from prx_scale.runs.rows import EvaluationRow
from prx_scale.study import run_from_json

SOURCE = "shapes-detector"
METRIC = "geneval/{}"

Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One sampled image with its prompt and verdict."""

    prompt_id: int
    image_id: int
    prompt: Prompt
    pixels: NDArray[np.float32]
    verdict: Verdict


def images_per_evaluation(run: RunConfig) -> int:
    """How many images one checkpoint's evaluation samples.

    Args:
        run: the run.
    """
    evaluation = run.evaluation
    return len(shapes_prompts(evaluation.prompts_per_task, evaluation.seed)) * evaluation.images_per_prompt


def evaluate(info: RunInfo, step: int, advance: Advance | None = None) -> list[EvaluationRow]:
    """Evaluate one checkpoint and record its scores; the last checkpoint's images are kept.

    Args:
        info: the run.
        step: of a complete checkpoint.
        advance: is told the number of images as they are made.

    Returns:
        The rows recorded: the six tasks and their plain mean.

    Raises:
        InputError: there is no such checkpoint.
    """
    run = run_from_json(info.config, str(info.folder / "run.json"))
    prompts = shapes_prompts(run.evaluation.prompts_per_task, run.evaluation.seed)
    each = run.evaluation.images_per_prompt
    captions = [prompt.prompt for prompt in prompts for _ in range(each)]
    model = load_model(run, info.folder, step, run.evaluation.weights)
    images = sample(model, run, captions, advance)
    sampled = [
        Sampled(
            prompt_id=number // each,
            image_id=number % each,
            prompt=prompts[number // each],
            pixels=images[number],
            verdict=judge(prompts[number // each], found, SHAPES_RULES),
        )
        for number, found in enumerate(detect(images))
    ]
    if step == run.training.steps:
        write_samples(info.folder / "samples" / f"step-{step:06d}-{run.evaluation.weights}", sampled)
    rows = _rows(run, step, sampled)
    RunRecord(info.folder).append_all(rows)
    return rows


def _rows(run: RunConfig, step: int, sampled: Sequence[Sampled]) -> list[EvaluationRow]:
    graded = [
        Graded(prompt_id=s.prompt_id, image_id=s.image_id, tag=s.prompt.tag, correct=s.verdict.correct) for s in sampled
    ]
    scores = score(graded, images_per_prompt=run.evaluation.images_per_prompt)

    def row(name: str, value: Score) -> EvaluationRow:
        return EvaluationRow(
            step=step,
            weights=run.evaluation.weights,
            metric=METRIC.format(name),
            value=value.value,
            stderr=value.stderr,
            n=value.n,
            sampler=run.evaluation.sampler,
            steps=run.evaluation.steps,
            guidance=run.evaluation.guidance,
            source=SOURCE,
        )

    rows = [row(tag, value) for tag, value in scores.tasks.items()]
    return rows if scores.overall is None else [*rows, row("overall", scores.overall)]


def write_samples(folder: Path, sampled: Sequence[Sampled]) -> None:
    """Write images in the folder layout that GenEval's own tools read, and one index with the verdicts.

    Args:
        folder: made where it does not exist.
        sampled: the images.
    """
    index: list[str] = []
    for each in sampled:
        file = Path(f"{each.prompt_id:05d}/samples/{each.image_id:04d}.png")
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip((each.pixels.transpose(1, 2, 0) + 1) * 127.5, 0, 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / file)
        if each.image_id == 0:
            write_prompts(folder / f"{each.prompt_id:05d}" / "metadata.jsonl", [each.prompt])
        row = {
            "file": str(file),
            "prompt_id": each.prompt_id,
            "image": each.image_id,
            "tag": each.prompt.tag,
            "prompt": each.prompt.prompt,
            "correct": each.verdict.correct,
            "reason": each.verdict.reason,
        }
        index.append(json.dumps(row) + "\n")
    write_atomically(folder / "samples.jsonl", "".join(index))

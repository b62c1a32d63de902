"""Which checkpoints of a run have no scores yet. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from parallel.checkpoints import finished_steps
from prx_scale.config import RunConfig
from prx_scale.runs.files import read_rows


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints of a run, in order.

    Args:
        folder: of the run.
    """
    return finished_steps(folder / "checkpoint")


def scorable(run: RunConfig) -> bool:
    """Whether its images can be scored: only shapes have a detector.

    Args:
        run: the run.
    """
    return run.data.dataset == "shapes"


def due_steps(run: RunConfig, folder: Path) -> list[int]:
    """Checkpoints of a run that have no scores yet, of those of the regular interval and the last one.

    Scores of other weights, sampler steps or guidance than `[evaluation]` now says do not count.

    Args:
        run: the run.
        folder: of the run.
    """
    if not scorable(run):
        return []
    wanted = (run.evaluation.weights, run.evaluation.steps, run.evaluation.guidance)
    rows = read_rows(folder / "evaluation.jsonl")
    done = {row["step"] for row in rows if (row["weights"], row["steps"], row["guidance"]) == wanted}
    kept = set(checkpoint_steps(folder))
    return [step for step in run.evaluated_steps if step in kept and step not in done]

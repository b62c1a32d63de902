"""What `train` and `sweep` say of the weights that runs start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from prx_scale.config import RunConfig


def tell_starts(runs: Sequence[RunConfig], study_file: Path, folder: Path, console: Console | None) -> None:
    """Check the weights of the runs that will start from some, and say what is not the same as in them.

    Args:
        runs: of a study.
        study_file: for errors.
        folder: of the study; runs that have a checkpoint no longer need their weights.
        console: to tell on; None only checks.

    Raises:
        InputError: weights are missing, are not those of the run, or do not fit.
    """
    from prx_scale.startweights import check_start

    told: set[str] = set()
    for run in runs:
        resumes = any((folder / "runs" / run.id).glob("checkpoint/step-*/.metadata"))
        if not run.training.start_from or resumes:
            continue
        for note in check_start(run, f"{study_file}:"):
            line = f"{run.training.start_from}: {note}"
            if console and line not in told:
                console.print(line, soft_wrap=True, markup=False)
            told.add(line)

"""`prx-scale evaluate`: sample the checkpoints of a study and score them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from prx_scale.errors import InputError, nearest

if TYPE_CHECKING:
    from prx_scale.runs.info import RunInfo


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Sample images from the checkpoints of a study and score them with GenEval's rules; done ones are skipped.

    Example: prx-scale evaluate quickstart --run d3-s0
    """

    study_dir: tyro.conf.Positional[Path]
    """The study folder."""
    runs: Annotated[tuple[str, ...], tyro.conf.arg(name="run", metavar="ID ...")] = ()
    """Ids of runs, or their beginnings; all by default."""

    def run(self) -> int:
        """Evaluate what has not been evaluated.

        Raises:
            InputError: no such study or run.
        """
        from prx_scale.commands.children import end_with_parent, quiet_threads
        from prx_scale.runs import load_runs

        end_with_parent()
        quiet_threads()
        infos = chosen(load_runs(self.study_dir), self.runs, self.study_dir)
        _evaluate(infos)
        return 0


def chosen(infos: Sequence[RunInfo], ids: Sequence[str], study_dir: Path) -> list[RunInfo]:
    """The runs that are asked for by id.

    Args:
        infos: all runs of the study.
        ids: ids or their beginnings; none means all.
        study_dir: for errors.

    Raises:
        InputError: no run answers to an id.
    """
    for run_id in ids:
        if not any(info.run.startswith(run_id) for info in infos):
            raise InputError(f"{study_dir}: no run '{run_id}'; {nearest(run_id, [info.run for info in infos])}")
    return [info for info in infos if not ids or any(info.run.startswith(run_id) for run_id in ids)]


def _evaluate(infos: Sequence[RunInfo]) -> None:
    from prx_scale.commands.progress import bars
    from prx_scale.commands.text import plain_console
    from prx_scale.evaluation.due import due_steps, scorable
    from prx_scale.study import run_from_json

    console = plain_console()
    runs = {info.run: run_from_json(info.config, str(info.folder / "run.json")) for info in infos}
    due = [(info, step) for info in infos for step in due_steps(runs[info.run], info.folder)]
    if not due:
        why = "every checkpoint has its scores"
        if not any(map(scorable, runs.values())):
            why = "only images of the shapes dataset can be scored"
        console.print(f"nothing to evaluate: {why}")
        return
    from prx_scale.evaluation.shapes_geneval import evaluate, images_per_evaluation

    with bars(console) as progress:
        for info, step in due:
            images = images_per_evaluation(runs[info.run])
            task = progress.add_task(f"{info.run} step {step}", total=images, loss="", speed="images")
            rows = evaluate(info, step, lambda made, task=task: progress.advance(task, made))
            scores = ", ".join(f"{row.metric.removeprefix('geneval/')} {row.value:.2f}" for row in rows)
            console.print(f"{info.run} step {step} ({rows[0].weights}): {scores}")

"""The steps of the quickstart, each of which finds what an earlier start has already done."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prx_scale import study as studies
from prx_scale import studyfit
from prx_scale.commands import exits
from prx_scale.commands.children import evaluate_job
from prx_scale.commands.progress import evaluations
from prx_scale.commands.sweep import launch, plan_table
from prx_scale.errors import InputError
from prx_scale.evaluation.due import due_steps
from prx_scale.models.build import model_shape
from prx_scale.models.sizes import training_flops
from prx_scale.quickstart.preview import write_preview
from prx_scale.runs import load, load_runs
from prx_scale.runs.files import write_atomically
from prx_scale.runs.info import State
from prx_scale.runs.record import RunRecord
from prx_scale.study import Study
from reports.study_page import write_study_report
from slurm.local import Interrupted, room, run_jobs
from slurm.plan import plan


def prepare(folder: Path, smoke: bool) -> Study:
    """Put the embedded study file into a folder and resolve it.

    Args:
        folder: of the study.
        smoke: the shortened study.

    Raises:
        InputError: the folder holds another study, or training is not installed.
    """
    if importlib.util.find_spec("torchtitan") is None:
        raise InputError("the quickstart trains models and needs torch: pip install 'prx-scale[train]'")
    name = "smoke.toml" if smoke else "study.toml"
    text = (resources.files("prx_scale.quickstart") / name).read_text(encoding="utf-8")
    file = folder / "study.toml"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise InputError(f"{file}: another study, or one of another version; remove {folder} or choose another --out")
    if not file.exists():
        write_atomically(file, text)
    return studies.load(file, folder)


def run_chain(study: Study, console: Console) -> int:
    """Go through all steps; what is done already is not done again.

    Args:
        study: the embedded study.
        console: for progress and results.

    Returns:
        Exit code: 0 all done, 1 a run failed, 130 interrupted.
    """
    started = time.monotonic()
    console.print(plan_table(plan(study.runs, study.folder), console.width))
    preview = study.folder / "dataset"
    if not (preview / "index.jsonl").exists():
        _step(console, "1. render the shapes dataset")
        write_preview(study.runs[0].data, preview)
        console.print(f"examples of each task in {preview}; training samples are rendered as they are needed")
    fitted = [run.id for run in study.runs if run.variant not in study.fit.holdout]
    held_out = [run.id for run in study.runs if run.variant in study.fit.holdout]
    code = train_and_evaluate(study, fitted, console, "2. train", "3. sample and score")
    if code == exits.INTERRUPTED:
        return code
    _step(console, "4. fit the law and predict the held-out depth")
    if not _predict(study, console):
        _step(console, "6. write the report")
        console.print(str(write_study_report(study.folder, None)), soft_wrap=True)
        return exits.FAILED
    code = max(code, train_and_evaluate(study, held_out, console, "5. train the held-out depth", "and score it"))
    if code == exits.INTERRUPTED:
        return code
    sentence = studyfit.refresh(study)
    _step(console, "6. write the report")
    page = write_study_report(study.folder, None)
    _summary(study, console)
    if sentence:
        console.print(sentence)
    console.print(f"{page}  ({time.monotonic() - started:,.0f} s)", soft_wrap=True)
    return code


def _predict(study: Study, console: Console) -> bool:
    """Fit, and say what is predicted; False where too few runs came through for a fit."""
    try:
        result = studyfit.fit_study(study)
    except InputError as error:
        console.print(f"no fit: {error}", soft_wrap=True)
        return False
    for forecast in studyfit.predict_held_out(study, result):
        low, high = forecast.interval
        console.print(
            f"depth {forecast.depth} after {forecast.data:,} images: predicted validation loss {forecast.loss:.4f}, "
            f"{result.level:.0%} interval {low:.4f} to {high:.4f}"
        )
    return True


def _step(console: Console, title: str) -> None:
    console.rule(title, align="left", style="dim")


def train_and_evaluate(study: Study, ids: Sequence[str], console: Console, train: str, evaluate: str) -> int:
    """Train some runs of the study and score their checkpoints.

    Args:
        study: the study.
        ids: of the runs.
        console: for progress.
        train: title of the first step.
        evaluate: title of the second.

    Returns:
        Exit code, as of `prx-scale sweep`.
    """
    _step(console, train)
    runs = [run for run in study.runs if run.id in ids]
    code = launch(plan(runs, study.folder), study.folder, None, console)
    if code == exits.INTERRUPTED:
        return code
    _step(console, evaluate)
    done = [run for run in runs if _is_done(study, run.id)]
    due = [run.id for run in done if due_steps(run, study.folder / "runs" / run.id)]
    return max(code, _evaluate(study, due, console))


def _is_done(study: Study, run_id: str) -> bool:
    info = RunRecord(study.folder / "runs" / run_id).read()
    return info is not None and info.state is State.DONE


def _evaluate(study: Study, ids: Sequence[str], console: Console) -> int:
    if not ids:
        return exits.DONE
    groups = _even_groups(study, ids)
    jobs = [evaluate_job(study.folder, group, f"evaluate-{number}") for number, group in enumerate(groups)]
    try:
        with evaluations([run for run in study.runs if run.id in ids], study.folder, console) as tick:
            outcomes = run_jobs(jobs, room(len(jobs)), tick)
            tick()
    except Interrupted:
        console.print("interrupted: the same command goes on from here")
        return exits.INTERRUPTED
    for outcome in outcomes:
        if outcome.exit_code:
            console.print(f"{outcome.job.name} ended with exit code {outcome.exit_code}; {outcome.job.output} ends:")
            console.print(outcome.last_lines, markup=False)
    return exits.FAILED if any(outcome.exit_code for outcome in outcomes) else exits.DONE


def _even_groups(study: Study, ids: Sequence[str]) -> list[tuple[str, ...]]:
    """Runs in as many groups as jobs fit side by side, of about the same cost."""
    cost = {run.id: training_flops(model_shape(run)) for run in study.runs}
    groups: list[list[str]] = [[] for _ in range(room(len(ids)).workers)]
    for run_id in sorted(ids, key=lambda run_id: -cost[run_id]):
        min(groups, key=lambda group: sum(cost[other] for other in group)).append(run_id)
    return [tuple(group) for group in groups]


def _summary(study: Study, console: Console) -> None:
    losses, scores = _last_values(study)
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "depth", "params", "state", "validation loss (ema)", "GenEval overall"):
        table.add_column(heading, justify="left" if heading in ("run", "state") else "right")
    for info in load_runs(study.folder):
        loss, score = losses.get(info.run), scores.get(info.run)
        table.add_row(
            info.run,
            str(info.depth),
            f"{info.parameters.backbone:,}",
            info.state.value,
            "" if loss is None else f"{loss:.4f}",
            "" if score is None else f"{score:.2f}",
        )
    console.print(table)


def _last_values(study: Study) -> tuple[dict[str, float], dict[str, float]]:
    """Of every run the last validation loss of its averaged weights, and the last GenEval score."""
    validation = load(study.folder, "validation").filter(weights="ema").sort("step")
    evaluation = load(study.folder, "evaluation").filter(metric="geneval/overall").sort("step")
    losses = dict(zip(validation["run"], validation["loss"], strict=True))
    return losses, dict(zip(evaluation["run"], evaluation["value"], strict=True))

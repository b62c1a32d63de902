"""The table of runs, and what became of those that failed."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from prx_scale.runs.info import RunInfo, State
from reports import units
from reports.page import Block, Bullets, Cell, Column, Prose, Section, Table, text_cell
from reports.sections.evaluation import OVERALL
from reports.study_data import StudyData


def runs_section(study: StudyData) -> Section:
    """Every run with its size, work, result and state."""
    blocks: list[Block] = [run_table(study)]
    stopped = [run for run in study.runs if run.state in (State.FAILED, State.INTERRUPTED)]
    if stopped:
        blocks.append(Prose(text="Not every run finished:"))
        blocks.append(Bullets(items=tuple(stopped_sentence(run) for run in stopped)))
    return Section(key="runs", title="The runs", blocks=tuple(blocks))


def stopped_sentence(run: RunInfo) -> str:
    """Why a run stopped and what of it is used."""
    why = f": {run.reason}" if run.reason else "; no reason was recorded"
    text = (
        f"{run.run} {run.state.value} at step {units.count(run.step)} of {units.count(run.steps)}{why}".rstrip(".")
        + "."
    )
    if run.state is State.FAILED:
        good = run.last_good_step
        text += (
            f" Last good step: {units.count(good)}; rows after it are left out."
            if good is not None
            else (" It has no good step.")
        )
    return text


def last_scores(study: StudyData) -> dict[str, tuple[float, float]]:
    """The last GenEval overall of every run and its standard error, by run."""
    rows = study.evaluation.filter(pl.col("metric") == OVERALL).sort("step")
    preferred = rows.filter(pl.col("weights") == "ema")
    last = (preferred if len(preferred) else rows).group_by("run", maintain_order=True).last()
    return {row["run"]: (row["value"], row["stderr"]) for row in last.iter_rows(named=True)}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come, by the last row it wrote."""

    step: int
    samples: int
    flops: float


def progress(study: StudyData) -> dict[str, Progress]:
    """Steps done, samples seen and FLOPs spent by every run that has written a row, by run."""
    names = ["run", "step", "samples", "flops"]
    rows = pl.concat([study.train.select(names), study.validation.select(names)])
    last = rows.sort("step").group_by("run", maintain_order=True).last()
    return {
        row["run"]: Progress(step=row["step"], samples=row["samples"], flops=row["flops"])
        for row in last.iter_rows(named=True)
    }


def run_table(study: StudyData) -> Table:
    """One row per run."""
    names = ["Run", "State", "Depth", "Seed", "Params", "Steps", "Samples", "FLOPs"]
    names += ["Final loss", "GenEval", "Time"]
    if len(study.compared) > 1:
        names.insert(2, "Variant")
    losses, scores, seen = study.final_losses(), last_scores(study), progress(study)
    rows = tuple(
        _run_row(run, losses.get(run.run), scores.get(run.run), seen.get(run.run), len(study.compared) > 1)
        for run in study.runs
    )
    return Table(
        title="Runs of the study",
        columns=tuple(Column(label=name, numeric=name not in ("Run", "State", "Variant")) for name in names),
        rows=rows,
        note=f"Params are those of the backbone, without the embedders. Losses: {study.weights} weights, last "
        "validation, of a failed run its last good one. Time is training time over all restarts.",
    )


def _run_row(
    run: RunInfo,
    loss: float | None,
    score: tuple[float, float] | None,
    seen: Progress | None,
    variants: bool,
) -> tuple[Cell, ...]:
    samples, flops = (seen.samples, seen.flops) if seen else (None, None)
    step = max(run.step, seen.step) if seen else run.step
    cells = [
        text_cell(run.run),
        _state(run.state),
        *([text_cell(run.variant)] if variants else []),
        Cell(value=run.depth, text=str(run.depth)),
        Cell(value=run.seed, text=str(run.seed)),
        Cell(value=run.parameters.backbone, text=units.short(run.parameters.backbone)),
        Cell(value=step, text=_steps(step, run.steps)),
        Cell(value=samples, text=units.short(samples)),
        Cell(value=flops, text=units.flops(flops)),
        Cell(value=loss, text=units.loss(loss)),
        Cell(value=score[0] if score else None, text=_score(score)),
        Cell(value=run.wall_seconds, text=units.duration(run.wall_seconds)),
    ]
    return tuple(cells)


def _steps(done: int, planned: int) -> str:
    return units.count(done) if done == planned else f"{units.count(done)} of {units.count(planned)}"


def _state(state: State) -> Cell:
    match state:
        case State.DONE:
            return text_cell("✓ done", "good")
        case State.FAILED:
            return text_cell("✗ failed", "bad")
        case _:
            return text_cell(state.value)


def _score(score: tuple[float, float] | None) -> str:
    return units.share(*score) if score else units.NOTHING

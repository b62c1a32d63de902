"""The section on evaluation: validation loss against GenEval, and GenEval per task by depth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from reports import units
from reports.charts import evaluation as charts
from reports.page import Block, Cell, Column, Figure, Prose, Section, Table, text_cell
from reports.study_data import StudyData
from scaling.correlation import Correlation, correlate
from scaling.estimates import Estimate

PREFIX = "geneval/"
OVERALL = PREFIX + "overall"
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
MOST_ROWS = 60


@dataclass(frozen=True, kw_only=True)
class LossAndScore:
    """Validation loss and GenEval of the same checkpoints, and how they go together."""

    frame: pl.DataFrame
    """Columns run, depth, seed, step, weights, loss, value, stderr, n, low, high."""
    correlation: Correlation | None
    """None with fewer than three checkpoints."""
    level: float


def loss_and_score(study: StudyData, level: float = 0.8) -> LossAndScore | None:
    """Join losses with GenEval at the same run, step and weights; None where nothing was evaluated."""
    scores = study.evaluation.filter(pl.col("metric") == OVERALL).unique(["run", "step", "weights"], keep="last")
    if scores.is_empty():
        return None
    keys = ["run", "step", "weights"]
    losses = study.validation.select(*keys, "loss").unique(keys, keep="last")
    frame = (
        scores.join(losses, on=keys, how="inner")
        .select("run", "depth", "seed", "step", "weights", "loss", "value", "stderr", "n")
        .with_columns(
            low=(pl.col("value") - pl.col("stderr")).clip(0, 1), high=(pl.col("value") + pl.col("stderr")).clip(0, 1)
        )
        .sort("depth", "run", "step")
    )
    correlation = None
    if len(frame) >= 3:
        x, y = frame["loss"].to_numpy(), frame["value"].to_numpy()
        correlation = correlate(x, y, cluster=np.asarray(frame["run"].to_list()), level=level)
    return LossAndScore(frame=frame, correlation=correlation, level=level)


def evaluation_section(study: StudyData) -> Section:
    """GenEval of the study, or the sentence that nothing was evaluated."""
    title = "Evaluation: GenEval"
    scores = study.evaluation.filter(pl.col("metric").str.starts_with(PREFIX))
    if scores.is_empty():
        text = "No checkpoint has been evaluated yet, so nothing is said here about the images that the models make."
        return Section(key="evaluation", title=title, blocks=(Prose(text=text, tone="note"),))
    blocks: list[Block] = [Prose(text=_introduction(scores))]
    joined = loss_and_score(study)
    if joined is not None and len(joined.frame):
        blocks.append(_correlation_figure(study, joined))
    else:
        text = "No checkpoint has both a validation loss and a GenEval score, so the two cannot be compared."
        blocks.append(Prose(text=text, tone="note"))
    tasks = task_scores(scores)
    if len(tasks):
        blocks.append(_tasks_figure(study, tasks))
    return Section(key="evaluation", title=title, blocks=tuple(blocks))


def _introduction(scores: pl.DataFrame) -> str:
    sources = units.listing(sorted(scores["source"].unique().to_list()))
    text = (
        "GenEval asks for objects, counts, colours and positions by name and checks each image with a detector; a "
        f"score is the share of correct images. Judged by: {sources}."
    )
    if "shapes-detector" in sources:
        text += (
            " The prompts and the exact, rule-based detector are those of the shapes dataset: these numbers are not "
            "comparable with published GenEval scores of photographs."
        )
    return text


def strength(estimate: Estimate) -> str:
    """A correlation with its interval."""
    if math.isnan(estimate.value):
        return units.NOTHING
    low, high = (f"{bound:+.2f}".replace("-", "−") for bound in estimate.interval)
    return f"{estimate.value:+.2f} [{low}, {high}]".replace("-", "−")


def _correlation_figure(study: StudyData, joined: LossAndScore) -> Figure:
    found = joined.correlation
    checkpoints = units.plural(len(joined.frame), "checkpoint")
    words = f"Too few checkpoints ({len(joined.frame)}) to give a correlation."
    if found is not None and math.isnan(found.pearson.value):
        words = f"No correlation: loss or GenEval is the same at all {checkpoints}."
    elif found is not None:
        words = (
            f"Pearson {strength(found.pearson)}, Spearman {strength(found.spearman)}: {checkpoints} of "
            f"{units.plural(found.n_clusters, 'run')}, {units.percent(joined.level, 0)} intervals from resampling runs."
        )
    return Figure(
        key="loss-geneval",
        title="Validation loss against GenEval",
        subtitle=words + " Bars are one standard error.",
        chart=charts.loss_against_geneval(joined.frame, study.depths),
        description=f"Scatter of GenEval overall against validation loss, coloured by depth. {words}",
        source="Source: evaluation.jsonl and validation.jsonl, the same step and weights.",
        table=_score_table(joined.frame),
    )


def _score_table(frame: pl.DataFrame) -> Table:
    names = ("Run", "Depth", "Step", "Weights", "Validation loss", "GenEval", "Standard error", "Images")
    rows = tuple(
        (
            text_cell(row["run"]),
            Cell(value=row["depth"], text=str(row["depth"])),
            Cell(value=row["step"], text=units.count(row["step"])),
            text_cell(row["weights"]),
            Cell(value=row["loss"], text=units.loss(row["loss"])),
            Cell(value=row["value"], text=units.percent(row["value"])),
            Cell(value=row["stderr"], text=units.percent(row["stderr"])),
            Cell(value=row["n"], text=units.count(row["n"])),
        )
        for row in frame.head(MOST_ROWS).iter_rows(named=True)
    )
    columns = tuple(Column(label=name, numeric=name not in ("Run", "Weights")) for name in names)
    return Table(title="Loss and GenEval of the same checkpoints", columns=columns, rows=rows)


def task_scores(scores: pl.DataFrame) -> pl.DataFrame:
    """The last score of every run and task: columns run, depth, seed, series, task, value, stderr, n, low, high."""
    ordered = sorted(scores["weights"].unique().to_list())
    weights = "ema" if "ema" in ordered else ordered[0]
    rows = scores.filter((pl.col("metric") != OVERALL) & (pl.col("weights") == weights)).sort("step")
    rows = rows.group_by("run", "metric", maintain_order=True).last()
    names = {task: task.replace("_", " ") for task in TASKS}
    series = pl.format(
        "{} {} {}",
        pl.col("depth").cast(pl.String).str.zfill(4),
        pl.col("seed").cast(pl.String).str.zfill(4),
        pl.col("run"),
    )
    return rows.with_columns(
        task=pl.col("metric").str.strip_prefix(PREFIX).replace(names),
        series=series,
        low=(pl.col("value") - pl.col("stderr")).clip(0, 1),
        high=(pl.col("value") + pl.col("stderr")).clip(0, 1),
    ).sort("series", "task")


def _tasks_figure(study: StudyData, tasks: pl.DataFrame) -> Figure:
    known = tasks["task"].unique().to_list()
    order = [task.replace("_", " ") for task in TASKS if task.replace("_", " ") in known]
    order += sorted(set(known) - set(order))
    images = sorted(tasks["n"].unique().to_list())
    amount = f"{images[0]}" if len(images) == 1 else f"{images[0]} to {images[-1]}"
    columns = ["run", "depth", "seed", "series", "task", "value", "low", "high", "n"]
    return Figure(
        key="geneval-tasks",
        title="GenEval per task by depth",
        subtitle=f"Last evaluated checkpoint of every run, {amount} images a task. Bars are one standard error.",
        chart=charts.geneval_per_task(tasks.select(columns), study.depths, order),
        description="Dot plot of the share of correct images per GenEval task, one dot per run, coloured by depth.",
        source="Source: evaluation.jsonl.",
        table=_task_table(tasks, order),
    )


def _task_table(tasks: pl.DataFrame, order: list[str]) -> Table:
    known = {(row["run"], row["task"]): row for row in tasks.iter_rows(named=True)}
    rows: list[tuple[Cell, ...]] = []
    for run in tasks["run"].unique(maintain_order=True).to_list()[:MOST_ROWS]:
        cells = [text_cell(run)]
        for task in order:
            row = known.get((run, task))
            text = units.share(row["value"], row["stderr"]) if row else units.NOTHING
            cells.append(Cell(value=row["value"] if row else None, text=text))
        rows.append(tuple(cells))
    columns = (Column(label="Run", numeric=False), *(Column(label=task) for task in order))
    return Table(title="GenEval per task", columns=columns, rows=tuple(rows))

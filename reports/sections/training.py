"""The section on training: loss against steps, against compute, and per noise level."""

from __future__ import annotations

import numpy as np
import polars as pl

from reports import units
from reports.charts import base
from reports.charts import training as charts
from reports.page import Block, Cell, Column, Figure, Prose, Section, Table, text_cell
from reports.study_data import StudyData
from scaling.plots.frames import has_frontier
from scaling.results import FitResult

TABLE_ROWS = 60


def training_section(study: StudyData) -> Section:
    """Figures of the validation loss, or the sentence that there is none yet."""
    if study.validation.is_empty():
        blocks: tuple[Block, ...] = (
            Prose(text="No run has been validated yet, so there is no loss to show.", tone="note"),
        )
        return Section(key="training", title="Training", blocks=blocks)
    blocks = (
        Prose(
            text="The validation loss is the mean over equidistant noise levels without the last (t = 1), always on "
            "the same held-out images with the same noise, so that runs and steps can be compared."
        ),
        _steps_figure(study),
        _compute_figure(study),
        _levels_figure(study),
    )
    return Section(key="training", title="Training", blocks=blocks)


def _steps_figure(study: StudyData) -> Figure:
    columns = ["run", "depth", "seed", "weights", "step", "loss"]
    frame = base.thin(study.validation.sort("run", "weights", "step").select(columns), ["run", "weights"])
    kinds = sorted(frame["weights"].unique().to_list())
    subtitle = "Solid: averaged weights (EMA). Dashed: raw weights. " if len(kinds) > 1 else ""
    return Figure(
        key="loss-steps",
        title="Validation loss against training steps",
        subtitle=subtitle
        + "One line per run; runs of one depth share a colour. Click a depth in the legend to single it out.",
        chart=charts.loss_against_steps(frame, study.depths),
        description=f"Line chart of validation loss against training step. {_endings(study)}",
        source=f"Source: validation.jsonl of {units.plural(frame['run'].n_unique(), 'run')}, split "
        f"{', '.join(sorted(study.validation['split'].unique().to_list()))}.",
        table=_last_rows(study),
    )


def _endings(study: StudyData) -> str:
    """The last loss of each depth, for readers who cannot see the chart."""
    last = study.final_losses()
    parts: list[str] = []
    for depth in study.depths:
        losses = [last[run.run] for run in study.runs if run.depth == depth and run.run in last]
        if losses:
            parts.append(f"depth {depth} ends at {units.listing([units.loss(value) for value in losses])}")
    return "; ".join(parts).capitalize() + "."


def _last_rows(study: StudyData) -> Table:
    rows = (
        study.validation.sort("depth", "run", "weights", "step").group_by("run", "weights", maintain_order=True).last()
    )
    cells = tuple(
        (
            text_cell(row["run"]),
            Cell(value=row["depth"], text=str(row["depth"])),
            text_cell(row["weights"]),
            Cell(value=row["step"], text=units.count(row["step"])),
            Cell(value=row["samples"], text=units.short(row["samples"])),
            Cell(value=row["flops"], text=units.flops(row["flops"])),
            Cell(value=row["loss"], text=units.loss(row["loss"])),
        )
        for row in rows.head(TABLE_ROWS).iter_rows(named=True)
    )
    names = ("Run", "Depth", "Weights", "Step", "Samples", "FLOPs", "Validation loss")
    columns = tuple(Column(label=name, numeric=name not in ("Run", "Weights")) for name in names)
    return Table(title="Last validation of every run", columns=columns, rows=cells)


def frontier_losses(fit: FitResult, flops: pl.Series) -> pl.DataFrame | None:
    """Columns flops, loss: the fitted frontier over the range of compute that was measured; None without one."""
    if not has_frontier(fit) or not len(flops):
        return None
    least, most = float(flops.to_numpy().min()), float(flops.to_numpy().max())
    grid = np.geomspace(max(least, fit.observed["flops"][0]), most, 60)
    return pl.DataFrame({"flops": grid, "loss": fit.frontier(grid)[2]})


def _compute_figure(study: StudyData) -> Figure:
    rows = study.validation.filter(pl.col("weights") == study.weights).sort("run", "step")
    frame = base.thin(rows.select("run", "depth", "seed", "step", "flops", "loss"), ["run"])
    frontier = frontier_losses(study.fit, frame["flops"]) if study.fit else None
    note = " The dashed line is the fitted compute-optimal frontier." if frontier is not None else ""
    return Figure(
        key="loss-compute",
        title="Validation loss against compute",
        subtitle=f"{study.weights.upper() if study.weights == 'ema' else 'Raw'} weights.{note}",
        chart=charts.loss_against_compute(frame, study.depths, frontier),
        description="Line chart of validation loss against training FLOPs on a logarithmic axis, one colour per depth."
        + note,
        source="Source: validation.jsonl; FLOPs are counted from the architecture, training is three forward passes.",
    )


def _levels_figure(study: StudyData) -> Figure:
    last = study.last_validations()
    left_out = ""
    if study.failed and len(unfailed := last.filter(pl.col("state") != "failed")):
        last, left_out = unfailed, " Failed runs are left out."
    frame = (
        last.select("run", "depth", "seed", level="levels", loss="loss_per_level")
        .explode("level", "loss")
        .drop_nulls()
        .with_columns(counted=pl.col("level") < pl.col("level").max())
        .sort("depth", "run", "level")
    )
    return Figure(
        key="loss-levels",
        title="Validation loss per noise level",
        subtitle="Last validation of every run. The hollow point (t = 1, pure noise) is not part of the mean."
        + left_out,
        chart=charts.loss_per_level(frame, study.depths),
        description="Line chart of the last validation loss at every noise level, one line per run, coloured by depth.",
        source=f"Source: validation.jsonl, last row with {study.weights} weights of every run.",
        table=_level_table(last),
    )


def _level_table(last: pl.DataFrame) -> Table:
    levels: list[float] = max(last["levels"].to_list(), key=len)
    columns = (Column(label="Run", numeric=False), *(Column(label=f"t = {level:g}") for level in levels))
    rows: list[tuple[Cell, ...]] = []
    for row in last.sort("depth", "run").head(TABLE_ROWS).iter_rows(named=True):
        known = dict(zip(row["levels"], row["loss_per_level"], strict=False))
        losses = tuple(Cell(value=known.get(level), text=units.loss(known.get(level))) for level in levels)
        rows.append((text_cell(row["run"]), *losses))
    return Table(title="Validation loss per noise level", columns=columns, rows=tuple(rows))

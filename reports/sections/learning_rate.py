"""The section on learning rates: where the best one is for each size, and whether it stays there."""

from __future__ import annotations

import polars as pl

from reports import units
from reports.charts import learning_rate as charts
from reports.page import Block, Cell, Column, Figure, Prose, Section, Table, text_cell
from reports.rate_curves import HEAD_DIM, RateCurve, RateSweep, rate_sweeps
from reports.study_data import StudyData


def learning_rate_sections(study: StudyData) -> tuple[Section, ...]:
    """The section, or nothing where no model was trained at three learning rates or more.

    Args:
        study: as its folder has it.
    """
    sweeps = rate_sweeps(study)
    if not sweeps:
        return ()
    text = (
        "Final validation loss against the learning rate, for models that differ in nothing but their size. Points "
        "are runs, lines the means over seeds; a diamond is the vertex of a parabola in log2 of the rate through the "
        "best mean and those within an octave of it, or the best mean itself where it is at an end of the sweep."
    )
    figures = tuple(_figure(study, sweep, number, sweeps) for number, sweep in enumerate(sweeps))
    blocks: tuple[Block, ...] = (Prose(text=text), *figures, _table(sweeps))
    return (Section(key="learning-rate", title="Learning rate", blocks=blocks),)


def size_name(curve: RateCurve, sweep: RateSweep) -> str:
    """What sets a curve apart from the others of its sweep.

    Args:
        curve: one of them.
        sweep: all of them.
    """
    if len({each.depth for each in sweep.curves}) == 1:
        return str(curve.width)
    if all(each.width == HEAD_DIM * each.depth for each in sweep.curves):
        return str(curve.depth)
    return f"{curve.depth} × {curve.width}"


def _size_title(sweep: RateSweep) -> str:
    if len({each.depth for each in sweep.curves}) == 1:
        return "Width"
    return "Depth" if all(each.width == HEAD_DIM * each.depth for each in sweep.curves) else "Depth × width"


def _figure(study: StudyData, sweep: RateSweep, number: int, sweeps: list[RateSweep]) -> Figure:
    runs = [
        {"size": size_name(curve, sweep), "lr": run.lr, "seed": run.seed, "run": run.run, "loss": run.loss}
        for curve in sweep.curves
        for run in curve.runs
    ]
    best = [
        {"size": size_name(curve, sweep), "lr": curve.best.value, "loss": curve.best.loss} for curve in sweep.curves
    ]
    everything = [run for each in sweeps for curve in each.curves for run in curve.runs]
    name = sweep.scheme if sweep.scheme.startswith("muP") else sweep.scheme[0].upper() + sweep.scheme[1:]
    clashes = sum(each.scheme == sweep.scheme for each in sweeps) > 1
    return Figure(
        key=f"learning-rate-{number}",
        title=name + (f" ({units.listing(list(sweep.variants))})" if clashes else ""),
        subtitle=shift_sentence(sweep),
        chart=charts.loss_against_rate(
            pl.DataFrame(runs),
            pl.DataFrame(best),
            [size_name(curve, sweep) for curve in sweep.curves],
            _size_title(sweep),
            [run.lr for run in everything],
            max(run.loss for run in everything),
        ),
        description=f"Line chart of final validation loss against learning rate on a logarithmic axis, one line for "
        f"each size, {sweep.scheme}. {shift_sentence(sweep)}",
        source=f"Source: the last validation of {units.plural(len(runs), 'run')}, {study.weights} weights.",
    )


def shift_sentence(sweep: RateSweep) -> str:
    """Where the best rate of the largest model is, seen from that of the smallest.

    Args:
        sweep: curves of several sizes.
    """
    if len(sweep.curves) < 2:
        return "One size."
    small, large = (
        f"{_size_title(sweep).lower()} {size_name(each, sweep)}" for each in (sweep.curves[0], sweep.curves[-1])
    )
    if sweep.shift is None:
        return f"From {small} to {large}: a best rate is at an end of its sweep, so the shift is not known."
    octaves, error = sweep.shift
    spread = "" if error is None else f" ± {error:.2f}"
    factor = units.significant(2.0**octaves, 3)
    return f"From {small} to {large} the best rate is multiplied by {factor}: {_signed(octaves)}{spread} octaves."


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _table(sweeps: list[RateSweep]) -> Table:
    names = ("Parametrisation", "Depth", "Width", "Best rate", "± octaves", "Loss there", "Rates", "Seeds")
    rows = tuple(_row(sweep, curve) for sweep in sweeps for curve in sweep.curves)
    return Table(
        title="The best learning rate of each size",
        columns=tuple(Column(label=name, numeric=place > 0) for place, name in enumerate(names)),
        rows=rows,
        note="± is a standard error, a jackknife over seeds; ≤ or ≥ where the best rate measured is at an "
        "end of the sweep.",
    )


def _row(sweep: RateSweep, curve: RateCurve) -> tuple[Cell, ...]:
    best, rates = curve.best, sorted({run.lr for run in curve.runs})
    mark = "" if best.interior else "≤ " if best.value == rates[0] else "≥ "
    error = best.stderr_octaves
    return (
        text_cell(sweep.scheme),
        Cell(value=curve.depth, text=str(curve.depth)),
        Cell(value=curve.width, text=str(curve.width)),
        Cell(value=best.value, text=mark + units.significant(best.value, 3)),
        Cell(value=error, text=units.NOTHING if error is None else f"{error:.2f}"),
        Cell(value=best.loss, text=units.loss(best.loss)),
        Cell(value=len(rates), text=str(len(rates))),
        Cell(value=best.seeds, text=str(best.seeds)),
    )

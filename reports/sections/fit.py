"""The section on the fit, shared by the study page and the page of a single fit."""

from __future__ import annotations

import math
from collections.abc import Mapping

import polars as pl

from reports import units
from reports.page import Block, Bullets, Cell, Code, Column, Details, Figure, Prose, Section, Table, text_cell
from reports.study_data import StudyData
from scaling.estimates import Estimate
from scaling.laws import get_law
from scaling.plots import charts
from scaling.plots.frames import FitFrames, axis_title, fit_frames, frontier_frame, frontier_lines, optimal_frame
from scaling.provenance import Provenance
from scaling.results import FitResult

STATUS = {
    "converged": "The optimiser converged.",
    "bound-hit": "A parameter stands at its limit: the data do not determine it, so read the numbers with care.",
    "not-converged": "The optimiser did not converge: the numbers below are not a minimum and should not be used.",
}


def fit_section(study: StudyData) -> Section:
    """The study's fit and its frontier, or the sentence that there is none yet."""
    title = "The fit and its frontier"
    if study.fit is None:
        text = "No scaling law has been fitted yet: fit/fit.json is not there or could not be read."
        return Section(key="fit", title=title, blocks=(Prose(text=text, tone="note"),))
    blocks = [*law_blocks(study.fit), parameter_table(study.fit)]
    if study.points is None:
        blocks.append(
            Prose(text="The points of the fit (fit/points.csv) are missing, so curves are not drawn.", tone="note")
        )
    else:
        frames = fit_frames(study.fit, study.points, _heldout(study))
        blocks += figure_blocks(study.fit, frames, "fit/points.csv and fit/fit.json")
    blocks += frontier_blocks(study.fit, "fit/fit.json")
    return Section(key="fit", title=title, blocks=tuple(blocks))


def _heldout(study: StudyData) -> pl.DataFrame | None:
    if study.outcome is None or not study.outcome.checks:
        return None
    checks = study.outcome.checks
    return pl.DataFrame(
        {
            "params": [check.params for check in checks],
            "data": [check.data for check in checks],
            "loss": [check.measured for check in checks],
            "depth": [check.depth for check in checks],
        }
    )


def law_blocks(result: FitResult) -> list[Block]:
    """What was fitted, whether it converged, and every warning as a sentence."""
    blocks: list[Block] = [
        Code(label=f"The law ({result.law})", text=result.formula),
        Prose(
            text=f"Fitted to {units.plural(result.n_points, 'point')} from "
            f"{units.plural(result.n_clusters, 'independent unit')} by minimising {result.loss_kind}. "
            f"{STATUS.get(result.status, f'Status: {result.status}.')}"
            + (f" Intervals: {result.resampling}." if result.resampling else "")
        ),
    ]
    return blocks + [Prose(text=notice.message, tone="warning") for notice in result.warnings]


def parameter_table(result: FitResult) -> Table:
    """Parameters and compute-optimal exponents with their intervals."""
    names = ("Parameter", "Estimate", "Standard error", f"{units.percent(result.level, 0)} interval")
    exponents = {
        {"params_exponent": "N_opt ∝ C^a: a", "data_exponent": "D_opt ∝ C^b: b"}.get(key, key): value
        for key, value in result.compute_optimal.items()
    }
    rows = [_estimate_row(name, value) for name, value in {**result.parameters, **exponents}.items()]
    return Table(
        title="Parameters of the law",
        columns=tuple(Column(label=name, numeric=name != "Parameter") for name in names),
        rows=tuple(rows),
        note="Standard errors and intervals are from resampling; a standard error of a coefficient that spans "
        "orders of magnitude is given as a factor.",
    )


def _estimate_row(name: str, estimate: Estimate) -> tuple[Cell, ...]:
    spread = units.significant(estimate.stderr, 2)
    if estimate.stderr_log is not None and estimate.stderr_log > 0.2:
        spread = f"×÷ {units.significant(math.exp(min(estimate.stderr_log, 300)), 2)}"
    return (
        text_cell(name),
        Cell(value=estimate.value, text=units.significant(estimate.value)),
        Cell(value=estimate.stderr, text=spread),
        Cell(value=f"{estimate.interval[0]!r} to {estimate.interval[1]!r}", text=units.interval(estimate.interval)),
    )


def figure_blocks(result: FitResult, frames: FitFrames, source: str) -> list[Block]:
    """The fitted curves and the residuals."""
    return [_curves_figure(result, frames, source), _residuals_figure(result, frames, source)]


def _curves_figure(result: FitResult, frames: FitFrames, source: str) -> Figure:
    title = axis_title(result, frames.axis)
    heldout = " Diamonds were held out: the fit has not seen them." if "held out" in frames.points["used"] else ""
    unit = result.provenance.data_unit
    what = {
        "data": f"L(N, ·): loss against {unit}"
        + (", one curve per size" if frames.curves["group"].n_unique() > 1 else ""),
        "params": "Loss against params",
        "flops": "Loss against compute",
        "steps": "Loss against steps",
    }[frames.axis]
    if "unique" in get_law(result.law).axes:
        what += f", at the median of distinct {unit} of the size's points"
    optimal = optimal_frame(result, frames)
    best = "" if optimal is None else " Broken line: the compute-optimal runs."
    band = f" Bands: {units.percent(result.level, 0)} prediction interval for a new run."
    return Figure(
        key="fit-curves",
        title="Measured points and fitted curves",
        subtitle=what + "." + (band if frames.curves["low"].null_count() == 0 else "") + best + heldout,
        chart=charts.fitted_curves(frames.points, frames.curves, frames.groups, frames.group_title, title, optimal),
        description=f"Measured validation losses as points, the fitted law {result.formula} as lines, against {title}.",
        source=f"Source: {source}.",
        table=_points_table(result, frames),
    )


def _points_table(result: FitResult, frames: FitFrames, most: int = 80) -> Table:
    titles = {"params": "Params", "data": result.provenance.data_unit.capitalize(), "flops": "FLOPs", "steps": "Steps"}
    wanted = [axis for axis in titles if axis in ("params", "data", frames.axis)]
    axes = [axis for axis in wanted if frames.points[axis].null_count() == 0]
    by_depth = frames.group_title == "Depth"
    names = (
        *(["Depth"] if by_depth else []),
        *(titles[axis] for axis in axes),
        "Measured",
        "Fitted",
        "Residual",
        "Used",
    )
    rows: list[tuple[Cell, ...]] = []
    for row in frames.points.head(most).iter_rows(named=True):
        cells = (
            *(_axis_cell(axis, row[axis]) for axis in axes),
            Cell(value=row["loss"], text=units.loss(row["loss"])),
            Cell(value=row["predicted"], text=units.loss(row["predicted"])),
            Cell(value=row["residual"], text=units.percent(row["residual"], 2, signed=True)),
            text_cell(row["used"]),
        )
        rows.append((text_cell(row["group"]), *cells) if by_depth else cells)
    left = len(frames.points) - len(rows)
    note = f"{units.plural(left, 'further point')} in the source." if left else ""
    columns = tuple(Column(label=name, numeric=name != "Used") for name in names)
    return Table(title="Points and fitted values", columns=columns, rows=tuple(rows), note=note)


def _axis_cell(axis: str, value: float | None) -> Cell:
    return Cell(value=value, text=units.flops(value) if axis == "flops" else units.short(value))


def _residuals_figure(result: FitResult, frames: FitFrames, source: str) -> Figure:
    fitted = frames.points.filter(pl.col("used") == "fitted")
    worst = fitted["residual"].abs().max()
    size = units.percent(float(worst), 2) if isinstance(worst, float) else units.NOTHING
    return Figure(
        key="fit-residuals",
        title="Residuals",
        subtitle=f"Measured over fitted loss, minus one; the largest of the fit is {size}. A pattern would mean that "
        "the law has the wrong shape.",
        chart=charts.residuals(frames.points, frames.groups, frames.group_title),
        description=f"Scatter of relative residuals against fitted loss, around zero. The largest is {size}.",
        source=f"Source: {source}.",
    )


def frontier_blocks(result: FitResult, source: str) -> list[Block]:
    """The compute-optimal frontier; nothing where the law has none."""
    frame = frontier_frame(result)
    if frame is None:
        return []
    unit = result.provenance.data_unit
    most = units.flops(result.observed["flops"][1])
    exponents = units.listing(
        [
            f"{name} ∝ C^{units.significant(estimate.value, 3)} {units.interval(estimate.interval, 3)}"
            for name, estimate in zip(("params", unit), result.compute_optimal.values(), strict=False)
        ]
    )
    return [
        Figure(
            key="fit-frontier",
            title="Compute-optimal frontier",
            subtitle=f"How to split a budget: {exponents}. Right of the rule at {most} FLOPs is extrapolation.",
            chart=charts.frontier(frontier_lines(result, frame), unit, result.observed["flops"][1]),
            description=f"Compute-optimal params and {unit} against training FLOPs, logarithmic axes: {exponents}.",
            source=f"Source: {source}, with C = {units.significant(result.provenance.flops_per, 4)} · N · D.",
            table=_frontier_table(result, frame),
        )
    ]


def _frontier_table(result: FitResult, frame: pl.DataFrame) -> Table:
    names = ("FLOPs", "Params", result.provenance.data_unit.capitalize(), "Loss", "Range")
    rows = tuple(
        (
            Cell(value=row["flops"], text=units.flops(row["flops"])),
            Cell(value=row["params"], text=units.short(row["params"])),
            Cell(value=row["data"], text=units.short(row["data"])),
            Cell(value=row["loss"], text=units.loss(row["loss"])),
            text_cell("extrapolated" if row["beyond"] else "measured"),
        )
        for row in frame.gather_every(4).iter_rows(named=True)
    )
    columns = tuple(Column(label=name, numeric=name != "Range") for name in names)
    return Table(title="Compute-optimal choices", columns=columns, rows=rows)


def prediction_table(result: FitResult) -> Table:
    """The predictions of the fit with their intervals."""
    unit = result.provenance.data_unit
    titles = {"params": "Params", "data": unit.capitalize(), "flops": "FLOPs", "steps": "Steps"}
    titles["unique"] = f"Unique {unit}"
    axes = [axis for axis in titles if any(getattr(run, axis) is not None for run in result.predictions)]
    names = (*(titles[axis] for axis in axes), "Predicted loss", "Interval for a new run", "If the law is exact")
    rows = tuple(
        (
            *(_axis_cell(axis, getattr(p, axis)) for axis in axes),
            Cell(value=p.loss, text=units.loss(p.loss)),
            _interval_cell(p.interval),
            _interval_cell(p.law_interval),
        )
        for p in result.predictions
    )
    return Table(
        title=f"Predictions ({units.percent(result.level, 0)} intervals)",
        columns=tuple(Column(label=name) for name in names),
        rows=rows,
    )


def _interval_cell(interval: tuple[float, float]) -> Cell:
    return Cell(value=f"{interval[0]!r} to {interval[1]!r}", text=units.interval(interval, 4))


def fit_provenance(result: FitResult) -> Details:
    """Where a fit came from, folded."""
    objective = f"{units.significant(result.objective)} ({result.loss_kind})"
    return origin_details(result.provenance, {"objective": objective, **_quality(result)}, made="fit")


def _quality(result: FitResult) -> dict[str, str]:
    """Information criteria, and what hold-outs inside the fit said."""
    scores, found = result.criteria, result.calibration
    facts = {
        "AICc, BIC": f"{scores.aicc:.2f}, {scores.bic:.2f} ({scores.likelihood})",
        "intervals of parameters": f"{result.intervals}; {result.resampling}",
    }
    if found is not None:
        facts["calibration"] = (
            f"a predicted gain is off by {units.percent(found.kappa, 0)}; {found.n_errors} predictions of fitted points"
            f" at {found.n_cuts} cuts"
        )
    return facts


def origin_details(source: Provenance, further: Mapping[str, str] | None = None, made: str = "backtest") -> Details:
    """Where the points of an analysis came from and how it was made, folded.

    Args:
        source: its provenance.
        further: more facts by name.
        made: what the analysis is called.
    """
    facts = {
        "sources": ", ".join(source.sources),
        "rows": f"{source.n_rows} read, {source.n_used} used",
        "left out": "; ".join(f"{count} because {reason}" for reason, count in source.dropped) or "nothing",
        "columns": ", ".join(f"{ours} from {theirs}" for ours, theirs in source.columns.items()),
        "resamples": f"{source.bootstrap}, by {source.cluster}, seed {source.seed}",
        "unit of data": source.data_unit,
        "C / (N D)": units.significant(source.flops_per),
        **(further or {}),
        "prx-scale": source.version,
        "made": units.moment(source.created),
    }
    items = tuple(f"{name}: {value}" for name, value in facts.items() if value)
    blocks: tuple[Block, ...] = (Bullets(items=items),)
    if source.command:
        blocks = (*blocks, Code(label=f"Command that made this {made}", text=source.command))
    return Details(summary=f"Provenance of the {made}", blocks=blocks)

"""A fit in the terminal: tables of parameters and predictions, and warnings as sentences."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scaling import Estimate, FitResult
from scaling.calibration import Calibration


def print_fit(result: FitResult, notices: tuple[str, ...]) -> None:
    """Print a fit.

    Args:
        result: the fit.
        notices: what was assumed when the points were read.
    """
    console = Console(highlight=False, soft_wrap=not Console().is_terminal)
    console.print(Text(f"{result.law}: {result.formula}", style="bold"))
    console.print(Text(_points_line(result)))
    console.print(Text(_columns_line(result)))
    for notice in notices:
        console.print(Text(notice))
    agreement = f"{result.status}, {result.starts_agreeing:.0%} of starts agree"
    console.print(Text(f"objective {result.objective:.10g} ({result.loss_kind}), {agreement}"))
    console.print(Text(f"intervals: {result.resampling}"))
    if result.calibration is not None:
        console.print(Text(_calibration_line(result.calibration)))
    console.print(_parameter_table(result))
    if result.predictions:
        console.print(_prediction_table(result))
    for warning in result.warnings:
        console.print(Text.assemble(("warning ", "yellow"), f"[{warning.code}] {warning.message}"))


def _points_line(result: FitResult) -> str:
    p = result.provenance
    dropped = "".join(f"; {count} left out: {reason}" for reason, count in p.dropped)
    return (
        f"{result.n_points} points of {p.n_rows} rows, {result.n_clusters} independent ({p.cluster}),"
        f" from {', '.join(p.sources)}{dropped}"
    )


def _columns_line(result: FitResult) -> str:
    pairs = ", ".join(f"{key} = {column}" for key, column in result.provenance.columns.items())
    k = result.provenance.flops_per
    cost = "compute unknown" if k is None else f"C = {k:.4g} N D"
    if not {"params", "data"} <= set(result.observed):
        return f"columns: {pairs}"
    return f"columns: {pairs}; N params, D {result.provenance.data_unit}, {cost}"


def _calibration_line(found: Calibration) -> str:
    tested = f"{found.n_errors} predictions of fitted points at {found.n_cuts} cuts, {found.n_blocks} independent"
    source = tested if found.n_blocks else "no hold-out possible, from published tables"
    return f"calibration: a predicted gain is off by {found.kappa:.0%} ({source}); law exact with {found.right:.0%}"


def _parameter_table(result: FitResult) -> Table:
    table = Table(box=None, pad_edge=False, title_justify="left")
    for heading in ("parameter", "value", "stderr", f"{result.level:.0%} interval"):
        table.add_column(heading, justify="left" if heading == "parameter" else "right")
    for name, estimate in result.parameters.items():
        table.add_row(name, *_cells(estimate))
    for name, symbol in (("params_exponent", "N* ~ C^a"), ("data_exponent", "D* ~ C^b")):
        if name in result.compute_optimal:
            table.add_row(f"{symbol[-1]} ({symbol})", *_cells(result.compute_optimal[name]))
    return table


def _cells(estimate: Estimate) -> tuple[str, str, str]:
    spread = f"{estimate.stderr:.2g}"
    if estimate.stderr_log is not None:
        # The raw error of a coefficient explodes in weakly identified resamples; that of its logarithm does not.
        spread = f"x/÷ {math.exp(min(estimate.stderr_log, 300.0)):.3g}"
    low, high = estimate.interval
    if math.isnan(estimate.stderr):
        return f"{estimate.value:.6g}", "-", "-"
    return f"{estimate.value:.6g}", spread, f"{low:.5g} to {high:.5g}"


def _prediction_table(result: FitResult) -> Table:
    table = Table(box=None, pad_edge=False)
    unit = result.provenance.data_unit
    formats = {"params": ".4g", "data": ".4g", "flops": ".3g", "steps": ".4g", "unique": ".4g"}
    axes = [axis for axis in formats if any(getattr(run, axis) is not None for run in result.predictions)]
    names = [{"data": unit, "unique": f"unique {unit}"}.get(axis, axis) for axis in axes]
    names[0] = f"predict: {names[0]}"
    for heading in (*names, "loss", f"{result.level:.0%} interval for a new run", "if the law were exact"):
        table.add_column(heading, justify="right")
    for run in result.predictions:
        places = [getattr(run, axis) for axis in axes]
        cells = [
            "-" if value is None else format(value, formats[axis]) for axis, value in zip(axes, places, strict=True)
        ]
        table.add_row(*cells, f"{run.loss:.4f}", _between(run.interval), _between(run.law_interval))
    return table


def _between(interval: tuple[float, float]) -> str:
    low, high = interval
    return "-" if math.isnan(low) else f"{low:.4f} to {high:.4f}"

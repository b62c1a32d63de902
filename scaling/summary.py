"""A fit in words and tables of text: the lines and cells that the terminal, a notebook and ``repr`` show."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scaling.calibration import Calibration
    from scaling.estimates import Estimate
    from scaling.results import FitResult

_AXES = {"params": ".4g", "data": ".4g", "flops": ".3g", "steps": ".4g", "unique": ".4g"}
_EXPONENTS = (("params_exponent", "a (N* ~ C^a)"), ("data_exponent", "b (D* ~ C^b)"))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of text; columns are right-aligned, the first of parameters is not.

    Attributes:
        headings: one a column.
        rows: cells, each row as long as ``headings``.
        names: the first column holds names, so it is left-aligned.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: bool

    def lines(self) -> list[str]:
        """The table as lines of text, columns two spaces apart."""
        table = (self.headings, *self.rows)
        widths = [max(len(row[i]) for row in table) for i in range(len(self.headings))]
        return ["  ".join(self._cell(i, text, widths[i]) for i, text in enumerate(row)).rstrip() for row in table]

    def _cell(self, column: int, text: str, width: int) -> str:
        return text.ljust(width) if self.names and column == 0 else text.rjust(width)


def headline(result: FitResult) -> list[str]:
    """The law, the points, the columns they came from, and how the optimum was found, a line each."""
    agreement = f"{result.status}, {result.starts_agreeing:.0%} of starts agree"
    lines = [
        f"{result.law}: {result.formula}",
        _points_line(result),
        _columns_line(result),
        f"objective {result.objective:.10g} ({result.loss_kind}), {agreement}",
        f"intervals: {_intervals(result)}",
        _calibration_line(result.calibration),
    ]
    return [line for line in lines if line]


def parameter_grid(result: FitResult) -> Grid:
    """Parameters and compute-optimal exponents with their errors and intervals."""
    rows = [(name, *estimate_cells(estimate)) for name, estimate in result.parameters.items()]
    for name, words in _EXPONENTS:
        if name in result.compute_optimal:
            rows.append((words, *estimate_cells(result.compute_optimal[name])))
    headings = ("parameter", "value", "stderr", f"{result.level:.0%} interval")
    return Grid(headings=headings, rows=tuple(rows), names=True)


def criteria_line(result: FitResult) -> str:
    """The information criteria, with the likelihood behind them."""
    scores = result.criteria
    return f"AICc {scores.aicc:.2f}, BIC {scores.bic:.2f} ({scores.likelihood})"


def prediction_grid(result: FitResult) -> Grid | None:
    """The runs that were predicted; None where none were asked for."""
    if not result.predictions:
        return None
    unit = result.provenance.data_unit
    axes = [axis for axis in _AXES if any(getattr(run, axis) is not None for run in result.predictions)]
    names = [{"data": unit, "unique": f"unique {unit}"}.get(axis, axis) for axis in axes]
    rows: list[tuple[str, ...]] = []
    for run in result.predictions:
        places = ["-" if (value := getattr(run, axis)) is None else format(value, _AXES[axis]) for axis in axes]
        rows.append((*places, f"{run.loss:.4f}", _between(run.interval), _between(run.law_interval)))
    interval = f"{result.level:.0%} for a new run"
    headings = (f"predict: {names[0]}", *names[1:], "loss", interval, "if law exact")
    return Grid(headings=headings, rows=tuple(rows), names=False)


def _between(interval: tuple[float, float]) -> str:
    low, high = interval
    return "-" if math.isnan(low) else f"{low:.4f} to {high:.4f}"


def as_text(result: FitResult) -> str:
    """The fit as the command line prints it, without colours."""
    lines = [*headline(result), *parameter_grid(result).lines(), criteria_line(result)]
    predictions = prediction_grid(result)
    lines += predictions.lines() if predictions else []
    return "\n".join([*lines, *(f"warning [{each.code}] {each.message}" for each in result.warnings)])


def as_html(result: FitResult) -> str:
    """The same for a notebook; everything that came from the points is escaped."""
    law, *lines = headline(result)
    grids = [grid for grid in (parameter_grid(result), prediction_grid(result)) if grid]
    warnings = "".join(f"<li>{html.escape(each.message)} <code>{each.code}</code></li>" for each in result.warnings)
    return (
        f"<p><b>{html.escape(law)}</b><br>{'<br>'.join(map(html.escape, lines))}</p>"
        + "".join(_html_table(grid) for grid in grids)
        + f"<p>{html.escape(criteria_line(result))}</p>"
        + (f"<p>Warnings</p><ul>{warnings}</ul>" if warnings else "")
    )


def _html_table(grid: Grid) -> str:
    def row(cells: tuple[str, ...], tag: str) -> str:
        inner = [
            f'<{tag} style="text-align:{"left" if grid.names and i == 0 else "right"}">{html.escape(text)}</{tag}>'
            for i, text in enumerate(cells)
        ]
        return f"<tr>{''.join(inner)}</tr>"

    body = "".join(row(cells, "td") for cells in grid.rows)
    return f"<table><thead>{row(grid.headings, 'th')}</thead><tbody>{body}</tbody></table>"


def _intervals(result: FitResult) -> str:
    if result.intervals in ("delta", "profile"):
        return f"{result.intervals}; of new runs: {result.resampling}"
    return f"{result.intervals}, {result.resampling}"


def _calibration_line(found: Calibration | None) -> str:
    if found is None:
        return ""
    tested = f"{found.n_errors} predictions of fitted points at {found.n_cuts} cuts, {found.n_blocks} independent"
    source = tested if found.n_blocks else "no hold-out possible, from published tables"
    return f"calibration: a predicted gain is off by {found.kappa:.0%} ({source}); law exact with {found.right:.0%}"


def _points_line(result: FitResult) -> str:
    p = result.provenance
    dropped = "".join(f"; {count} left out: {reason}" for reason, count in p.dropped)
    origin = f", from {', '.join(p.sources)}" if p.sources else ""
    return (
        f"{result.n_points} points of {p.n_rows} rows, {result.n_clusters} independent ({p.cluster}){origin}{dropped}"
    )


def _columns_line(result: FitResult) -> str:
    pairs = ", ".join(f"{key} = {column}" for key, column in result.provenance.columns.items())
    k = result.provenance.flops_per
    cost = "compute unknown" if k is None else f"C = {k:.4g} N D"
    symbols = f"N params, D {result.provenance.data_unit}, {cost}" if {"params", "data"} <= set(result.observed) else ""
    said = "; ".join(part for part in (pairs, symbols) if part)
    return f"columns: {said}" if pairs else said


def estimate_cells(estimate: Estimate) -> tuple[str, str, str]:
    """Value, standard error and interval of an estimate."""
    spread = f"{estimate.stderr:.2g}"
    if estimate.stderr_log is not None:
        # The raw error of a coefficient explodes in weakly identified resamples; that of its logarithm does not.
        spread = f"x/÷ {math.exp(min(estimate.stderr_log, 300.0)):.3g}"
    low, high = estimate.interval
    if math.isnan(estimate.stderr):
        return f"{estimate.value:.6g}", "-", "-"
    return f"{estimate.value:.6g}", spread, f"{low:.5g} to {high:.5g}"

"""Both steps to a metric in the terminal: forms by held-out error, the chosen one, predictions, and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import number, plain_console

if TYPE_CHECKING:
    from prx_scale.metricrows import Source
    from scaling.downstream import Chain, ChainPrediction, FormScore
    from scaling.notices import Notice


def print_downstream(source: Source, scores: Sequence[FormScore], chained: Chain, notes: Sequence[Notice]) -> None:
    """Print both steps.

    Args:
        source: the rows, for their origin.
        scores: the forms, best first.
        chained: the chain through the best.
        notes: what a reader has to know.
    """
    console = plain_console()
    second, metric = chained.second, source.metric
    better = "higher" if metric.direction == "max" else "lower"
    console.print(Text(f"{metric.name} by way of the loss", style="bold"), f"({better} is better)")
    first = chained.first
    lines = [
        *source.points.notices,
        *source.notices,
        f"step 1: {first.law}, {first.formula}, on {first.n_points} losses of {first.n_clusters} runs ({first.status})",
        f"step 2: {metric.name} = {_formula(second.form)}, on {second.n_rows} rows of {second.n_clusters} runs;"
        f" {chained.shared} runs are in both",
        f"intervals: {chained.resampling}",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=not console.is_terminal)
    for table in (_form_table(scores), _parameter_table(chained)):
        console.print()
        console.print(table)
    if chained.predictions:
        console.print()
        console.print(_prediction_table(source, chained))
    console.print()
    for warning in first.warnings:
        line = Text.assemble(("warning ", "yellow"), f"step 1: [{warning.code}] {warning.message}")
        console.print(line, soft_wrap=not console.is_terminal)
    for note in notes:
        line = Text.assemble(("note ", "cyan"), f"[{note.code}] {note.message}")
        console.print(line, soft_wrap=not console.is_terminal)


def _formula(form: str) -> str:
    from scaling.downstream import FORMS

    return FORMS[form].formula


def _table(title: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, title=Text(title, style="bold"), title_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    return table


def _form_table(scores: Sequence[FormScore]) -> Table:
    table = _table(
        "forms, best at runs beyond the fitted first",
        "form",
        "held-out abs",
        "signed",
        "folds",
        "residual sd",
        "AICc",
    )
    for each in scores:
        held = ("-", "-") if math.isnan(each.held_out) else (f"{each.held_out:.4f}", f"{each.signed:+.4f}")
        spread = "-" if math.isnan(each.fit.residual_sd) else f"{each.fit.residual_sd:.4f}"
        aicc = f"{each.aicc:.1f}" if math.isfinite(each.aicc) else "-"
        table.add_row(each.form, *held, str(each.folds), spread, aicc)
    return table


def _parameter_table(chained: Chain) -> Table:
    second = chained.second
    table = _table(f"{second.form} form", "parameter", "value", "stderr", f"{second.level:.0%} interval")
    for name, each in second.parameters.items():
        low, high = each.interval
        if low == high == each.value:
            table.add_row(name, f"{each.value:.5g}", "stated", "-")
        elif math.isnan(low):
            table.add_row(name, f"{each.value:.5g}", "-", "-")
        else:
            table.add_row(name, f"{each.value:.5g}", f"{each.stderr:.2g}", f"{low:.4g} to {high:.4g}")
    return table


def _prediction_table(source: Source, chained: Chain) -> Table:
    level = f"{chained.second.level:.0%}"
    direct = chained.direct is not None
    measured = bool(source.held_out)
    headings = ["params", source.points.provenance.data_unit, "flops", "loss", f"{level} interval"]
    headings += [source.metric.name, f"{level} interval"]
    headings += ["direct on C", f"{level} interval"] * direct + ["measured"] * measured
    table = _table("predictions" + (" (held-out runs first)" if measured else ""), *headings)
    for place, run in enumerate(chained.predictions):
        cells = [*_run_cells(run), f"{run.value:.4f}", _between(run.interval)]
        if direct:
            cells += ["-" if math.isnan(run.direct) else f"{run.direct:.4f}", _between(run.direct_interval)]
        if measured:
            cells.append(f"{source.held_out[place].value:.4f}" if place < len(source.held_out) else "")
        table.add_row(*cells)
    return table


def _run_cells(run: ChainPrediction) -> list[str]:
    each = (run.target.params, run.target.data, run.target.flops)
    sizes = ["-" if value is None else number(value) for value in each]
    return [*sizes, f"{run.loss:.4f}", _between(run.loss_interval)]


def _between(pair: tuple[float, float]) -> str:
    return "-" if math.isnan(pair[0]) else f"{pair[0]:.4f} to {pair[1]:.4f}"

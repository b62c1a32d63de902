"""Allocations in the terminal: the optimum of every budget, the price of other sizes, depths, and inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import number, plain_console, with_interval

if TYPE_CHECKING:
    from prx_scale.commands.allocate import Plan
    from prx_scale.depthplan import DepthRun, Family
    from scaling import FitResult

_NEIGHBOURS = 4
_MOST = 12


def print_plans(result: FitResult, plans: Sequence[Plan], family: Family | None, notices: Sequence[str]) -> None:
    """Print allocations.

    Args:
        result: the fit.
        plans: one per budget.
        family: what the depths are of; None where there are none.
        notices: what was assumed when the points were read.
    """
    console = plain_console()
    origin = result.provenance
    console.print(Text(f"{result.law}: {result.formula}", style="bold"))
    console.print(Text(f"fitted to {result.n_points} points from {', '.join(origin.sources)}"), soft_wrap=True)
    for notice in notices:
        console.print(Text(notice), soft_wrap=True)
    tables = [_optimum_table(result, plans)]
    for plan in plans:
        if plan.depths:
            tables.append(_depth_table(result, plan))
        else:
            tables.append(_deviation_table(result, plan))
    if any(plan.lifetimes for plan in plans):
        tables.append(_lifetime_table(result, plans))
    for table in tables:
        console.print()
        console.print(table)
    console.print()
    if family is not None:
        console.print(Text(f"depths are of {family.source}, batch {family.batch}"), soft_wrap=True)
    _print_warnings(plans)


def _print_warnings(plans: Sequence[Plan]) -> None:
    console = plain_console()
    for plan in plans:
        for notice in plan.allocation.notices:
            where = f"[{notice.code}] at {plan.allocation.flops:.3g} FLOPs: {notice.message}"
            console.print(Text.assemble(("warning ", "yellow"), where), soft_wrap=True)


def _table(title: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, title=Text(title, style="bold"), title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _optimum_table(result: FitResult, plans: Sequence[Plan]) -> Table:
    unit = result.provenance.data_unit
    title = f"compute-optimal, with {result.level:.0%} intervals"
    table = _table(title, "FLOPs", "params N*", f"{unit} D*", "D*/N*", "loss of the curve", "of a run")
    for plan in plans:
        best = plan.allocation
        cells = [with_interval(each.value, each.interval) for each in (best.params, best.data, best.data_per_param)]
        table.add_row(
            f"{best.flops:.3g}", *cells, _loss_cell(best.loss.value, best.loss.interval), _span(best.run_interval)
        )
    return table


def _span(interval: tuple[float, float]) -> str:
    low, high = interval
    return "-" if math.isnan(low) else f"{low:.4f}-{high:.4f}"


def _loss_cell(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.4f}" if math.isnan(interval[0]) else f"{value:.4f} ({_span(interval)})"


def _times(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}x"


def _deviation_table(result: FitResult, plan: Plan) -> Table:
    unit = result.provenance.data_unit
    title = f"other sizes at {plan.allocation.flops:.3g} FLOPs"
    table = _table(title, "N/N*", "params", unit, "loss", "more loss", "same loss for FLOPs", "overpaid")
    for each in plan.allocation.deviations:
        table.add_row(
            f"{each.factor:.3g}",
            number(each.params),
            number(each.data),
            f"{each.loss:.4f}",
            f"{each.loss_increase:.2%}",
            f"{each.equivalent_flops:.3g}",
            _times(each.compute_factor),
        )
    return table


def _depth_table(result: FitResult, plan: Plan) -> Table:
    title = f"depths at {plan.allocation.flops:.3g} FLOPs"
    table = _table(
        title,
        "depth",
        "params",
        "FLOPs/sample",
        "samples",
        "steps",
        "loss",
        "of a run",
        "more loss",
        "overpaid",
        "best in",
    )
    best = min(plan.depths, key=lambda run: run.loss)
    for run in _nearest(plan.depths, best):
        cells = (
            f"{run.depth}",
            number(run.params),
            f"{run.flops_per_sample:.4g}",
            number(run.samples),
            f"{run.steps:,}",
            f"{run.loss:.4f}",
            _span(run.interval),
            f"{run.loss_increase:.2%}",
            _times(run.compute_factor),
            f"{run.best_share:.0%}" if len(result.draws) else "-",
        )
        table.add_row(*cells, style="bold" if run is best else None)
    return table


def _nearest(runs: tuple[DepthRun, ...], best: DepthRun) -> tuple[DepthRun, ...]:
    if len(runs) <= _MOST:
        return runs
    at = runs.index(best)
    return runs[max(at - _NEIGHBOURS, 0) : at + _NEIGHBOURS + 1]


def _lifetime_table(result: FitResult, plans: Sequence[Plan]) -> Table:
    unit = result.provenance.data_unit
    title = "cheapest model of equal loss, training and inference together"
    headings = ("budget", f"{unit} generated", "loss", "params", unit, "N/N*", "training", "inference", "total saved")
    table = _table(title, *headings)
    for plan in plans:
        for life in plan.lifetimes:
            table.add_row(
                f"{plan.allocation.flops:.3g}",
                number(life.samples),
                f"{life.loss:.4f}",
                number(life.params),
                number(life.data),
                f"{life.params / life.optimal_params:.3g}",
                f"{life.training_flops:.3g}",
                f"{life.inference_flops:.3g}",
                f"{life.saving:.1%}",
            )
    return table

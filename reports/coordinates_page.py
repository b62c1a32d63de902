"""The page of a coordinate check, for ``prx-scale coord-check --html``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import polars as pl

from prx_scale.runs.clock import now
from reports import units
from reports.charts import coordinates as charts
from reports.page import Block, Cell, Column, Fact, Facts, Figure, Page, Prose, Section, Table, text_cell
from reports.render import render_html
from scaling.coordinates import BAND, Coordinate, Scheme, Slope, slopes, steepest

SCHEMES: tuple[Scheme, ...] = ("standard", "muP")


def render_coordinates_page(rows: Sequence[Coordinate], study: str, base_width: int) -> str:
    """The whole page as HTML.

    Args:
        rows: what was measured, under both parametrisations.
        study: whose configuration was checked.
        base_width: of muP.
    """
    return render_html(build_coordinates_page(rows, study, base_width))


def build_coordinates_page(rows: Sequence[Coordinate], study: str, base_width: int) -> Page:
    """The page as data.

    Args:
        rows: what was measured, under both parametrisations.
        study: whose configuration was checked.
        base_width: of muP.
    """
    found, last = slopes(rows), max(row.step for row in rows)
    widths = sorted({row.width for row in rows})
    seeds = units.plural(len({row.seed for row in rows}), "seed")
    text = (
        f"Models of width {units.listing([str(width) for width in widths])} took {last} optimiser steps at the same "
        f"learning rate. Shown is how far each activation moved from where it was before training, as a root mean "
        f"square over held-out inputs, tokens and coordinates. Where it moves as much at every width, a learning rate "
        f"tuned at a small width suits a large one. A slope within ±{BAND:g} counts as flat."
    )
    blocks: list[Block] = [Facts(items=tuple(_fact(found, scheme) for scheme in SCHEMES)), Prose(text=text)]
    blocks += [_figure(rows, scheme, last, widths) for scheme in SCHEMES]
    return Page(
        title=f"Coordinate check: {study}",
        subtitle=f"{units.plural(len(widths), 'width')}, {seeds}, {last} steps; muP from width {base_width}.",
        sections=(
            Section(key="summary", title="Summary", blocks=tuple(blocks)),
            Section(key="slopes", title="Slopes", blocks=(_table(found, widths),)),
        ),
        footer=f"Written by prx-scale on {units.moment(now())}. This file is complete in itself and opens offline.",
    )


def _fact(found: Sequence[Slope], scheme: Scheme) -> Fact:
    worst = steepest(found, scheme)
    if worst is None:
        return Fact(label=f"{scheme}: steepest slope", value=None, text=units.NOTHING, note="nothing moved")
    word = "flat" if worst.flat else "not flat"
    text = f"{worst.slope:+.2f}".replace("-", "−")
    return Fact(label=f"{scheme}: steepest slope", value=worst.slope, text=text, note=f"{worst.quantity}; {word}")


def _kind(quantity: str) -> str:
    """What an activation is: embedded input, output, or the last word of what a block makes."""
    if quantity.startswith("block "):
        return quantity.rsplit(" ", 1)[1]
    return "output" if quantity == "output" else "inputs"


def _figure(rows: Sequence[Coordinate], scheme: Scheme, step: int, widths: Sequence[int]) -> Figure:
    shown = [row for row in rows if row.step == step and row.change > 0]
    own = [{**asdict(row), "kind": _kind(row.quantity)} for row in shown if row.scheme == scheme]
    frame = pl.DataFrame(own).select("kind", "quantity", "width", "seed", "change")
    worst = steepest(slopes(rows), scheme)
    ending = "" if worst is None else f" The steepest is {worst.quantity}, with a slope of {worst.slope:+.2f}."
    return Figure(
        key=f"coordinates-{scheme.lower()}",
        title="With muP" if scheme == "muP" else "Standard parametrisation",
        subtitle="A line for each activation, of every block. Both charts have the same axes.",
        chart=charts.changes(frame, widths, [row.change for row in shown]),
        description=f"Change of activations against width on logarithmic axes.{ending}",
        source=f"Source: models trained for {step} steps by this check.",
    )


def _table(found: Sequence[Slope], widths: Sequence[int]) -> Table:
    names = ("Activation", "Parametrisation", "Slope", f"At width {widths[0]}", f"At width {widths[-1]}")
    order = {quantity: place for place, quantity in enumerate(dict.fromkeys(each.quantity for each in found))}
    rows = tuple(
        (
            text_cell(each.quantity),
            text_cell(each.scheme),
            Cell(value=each.slope, text=f"{each.slope:+.2f}".replace("-", "−"), tone="good" if each.flat else "bad"),
            Cell(value=each.smallest, text=units.significant(each.smallest, 3)),
            Cell(value=each.largest, text=units.significant(each.largest, 3)),
        )
        for each in sorted(found, key=lambda each: (order[each.quantity], each.scheme == "muP"))
    )
    return Table(
        title="Slope of log change against log width",
        columns=tuple(Column(label=name, numeric=place > 1) for place, name in enumerate(names)),
        rows=rows,
        note="Least squares over all widths and seeds after the last step.",
    )

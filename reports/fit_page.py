"""The page of a single fit, for ``prx-scale fit --html``."""

from __future__ import annotations

from pathlib import Path

from reports import units
from reports.page import Block, Fact, Facts, Page, Prose, Section
from reports.render import render_html
from reports.sections.fit import (
    figure_blocks,
    fit_provenance,
    frontier_blocks,
    law_blocks,
    parameter_table,
    prediction_table,
)
from scaling.plots.frames import fit_frames, points_frame
from scaling.points import Points
from scaling.results import FitResult


def render_fit_page(result: FitResult, points: Points) -> str:
    """The whole page as HTML.

    Args:
        result: the fit.
        points: the points that it was made from.
    """
    return render_html(build_fit_page(result, points))


def build_fit_page(result: FitResult, points: Points) -> Page:
    """The page as data.

    Args:
        result: the fit.
        points: the points that it was made from.
    """
    names = ", ".join(Path(source).name for source in result.provenance.sources) or "points in memory"
    sections = [
        Section(key="summary", title="Summary", blocks=(_facts(result), *law_blocks(result))),
        Section(key="parameters", title="Parameters", blocks=(parameter_table(result),)),
        Section(
            key="fit",
            title="The fit",
            blocks=tuple(figure_blocks(result, fit_frames(result, points_frame(points)), names)),
        ),
    ]
    frontier = tuple(frontier_blocks(result, names))
    if frontier:
        sections.append(Section(key="frontier", title="The frontier", blocks=frontier))
    sections.append(Section(key="predictions", title="Predictions", blocks=_predictions(result)))
    sections.append(Section(key="provenance", title="Where the numbers came from", blocks=(fit_provenance(result),)))
    return Page(
        title=f"Scaling law: {result.law}",
        subtitle=f"A fit of {units.plural(result.n_points, 'point')} from {names}.",
        sections=tuple(sections),
        footer=f"Made by prx-scale {result.provenance.version} on {units.moment(result.provenance.created)}.",
    )


def _facts(result: FitResult) -> Facts:
    facts = [Fact(label="Law", value=result.law, text=result.law, note=result.status)]
    clusters = units.plural(result.n_clusters, "independent unit")
    facts.append(Fact(label="Points", value=result.n_points, text=units.count(result.n_points), note=clusters))
    for name, symbol in (("params_exponent", "N_opt ∝ C^a"), ("data_exponent", "D_opt ∝ C^b")):
        estimate = result.compute_optimal.get(name)
        if estimate:
            label = f"Exponent, {symbol}"
            text = units.significant(estimate.value, 3)
            facts.append(Fact(label=label, value=estimate.value, text=text, note=units.interval(estimate.interval)))
    for prediction in result.predictions[:2]:
        unit = result.provenance.data_unit
        names = {"params": "params", "data": unit, "steps": "steps", "unique": f"unique {unit}"}
        given = {name: value for axis, name in names.items() if (value := getattr(prediction, axis)) is not None}
        where = "at " + ", ".join(f"{units.short(value)} {name}" for name, value in given.items())
        if not given:
            where = f"at {units.flops(prediction.flops)} FLOPs"
        note = f"{where}; {units.interval(prediction.interval, 4)}"
        facts.append(Fact(label="Predicted loss", value=prediction.loss, text=units.loss(prediction.loss), note=note))
    return Facts(items=tuple(facts))


def _predictions(result: FitResult) -> tuple[Block, ...]:
    if not result.predictions:
        return (Prose(text="No prediction was asked for.", tone="note"),)
    return (
        Prose(
            text="Where a new run should fall, its own scatter included. The first interval leaves room for the law"
            " being only approximately right, from hold-outs inside the points and from how laws failed elsewhere."
        ),
        prediction_table(result),
    )

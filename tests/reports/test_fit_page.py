"""The page of a single fit, for every kind of law."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import scaling
from reports.fit_page import build_fit_page, render_fit_page
from reports.page import Figure, walk
from scaling.laws import LAWS
from scaling.plots.frames import fit_frames, points_frame


def figure_keys(result: scaling.FitResult, points: scaling.Points) -> list[str]:
    """The figures of the page, in order."""
    page = build_fit_page(result, points)
    return [block.key for section in page.sections for block in walk(section.blocks) if isinstance(block, Figure)]


def test_the_page_has_parameters_charts_and_predictions(
    synthetic_fit: tuple[scaling.FitResult, scaling.Points],
) -> None:
    result, points = synthetic_fit
    assert figure_keys(result, points) == ["fit-curves", "fit-residuals", "fit-frontier"]
    html = render_fit_page(result, points)
    for words in (
        "Parameters of the law",
        "Provenance of the fit",
        result.formula,
        f"{result.predictions[0].loss:.4f}",
    ):
        assert words in html


@pytest.mark.parametrize("law", sorted(set(LAWS) - {"broken:params"}))  # three sizes show no break
def test_every_law_has_a_page(law: str, synthetic_fit: tuple[scaling.FitResult, scaling.Points]) -> None:
    _, points = synthetic_fit
    data = points.need("data")
    points = replace(points, steps=data / 64, unique=np.minimum(data, np.median(data)))
    result = scaling.fit(points, law=law, bootstrap=20)
    expected = ["fit-curves", "fit-residuals"] + (["fit-frontier"] if result.compute_optimal else [])
    assert figure_keys(result, points) == expected
    main = render_fit_page(result, points).split("</main>")[0].split("<main")[1]
    assert not re.search(r"\b(nan|None|inf)\b", main)


def test_without_resamples_and_without_flops(synthetic_fit: tuple[scaling.FitResult, scaling.Points]) -> None:
    _, points = synthetic_fit
    bare = scaling.Points(params=points.params, data=points.data, loss=points.loss)
    result = scaling.fit(bare, bootstrap=0)
    assert figure_keys(result, bare) == ["fit-curves", "fit-residuals"]
    render_fit_page(result, bare)


@pytest.mark.parametrize("axis", ["params", "data", "flops", "steps"])
def test_a_table_of_one_axis_has_a_page(axis: str) -> None:
    x = np.geomspace(1e3, 1e6, 9)
    points = scaling.Points(loss=0.3 + x**-0.3, **{axis: x})
    result = scaling.fit(points, law=f"power_floor:{axis}", bootstrap=20, predict=[{axis: 4e6}])
    assert figure_keys(result, points) == ["fit-curves", "fit-residuals"]
    main = render_fit_page(result, points).split("</main>")[0].split("<main")[1]
    assert not re.search(r"\b(nan|None|inf)\b", main)


def test_frames_follow_the_fit(synthetic_fit: tuple[scaling.FitResult, scaling.Points]) -> None:
    result, points = synthetic_fit
    frames = fit_frames(result, points_frame(points))
    rows = frames.points
    assert rows["predicted"].to_list() == pytest.approx(result.predict(points.params, points.data).tolist())
    assert rows["residual"].abs().max() < 0.02
    assert frames.groups == ("130\u00a0k", "1.04\u00a0M", "3.51\u00a0M")
    curves = frames.curves
    assert (curves["low"] < curves["loss"]).all() and (curves["loss"] < curves["high"]).all()


def test_many_sizes_are_coloured_continuously(
    fit_of_many_sizes: tuple[scaling.FitResult, scaling.Points],
) -> None:
    result, points = fit_of_many_sizes
    frames = fit_frames(result, points_frame(points))
    assert frames.groups == ()
    assert frames.curves["group"].n_unique() == 6


def test_a_frame_of_depths_is_coloured_by_depth(synthetic_fit: tuple[scaling.FitResult, scaling.Points]) -> None:
    result, points = synthetic_fit
    measured = points_frame(points).with_columns(depth=pl.Series(np.repeat([1, 2, 3], 10)))
    heldout = pl.DataFrame({"params": [8e6], "data": [1e5], "loss": [0.27], "depth": [4]})
    frames = fit_frames(result, measured, heldout)
    assert frames.groups == ("1", "2", "3", "4")
    assert frames.points["used"].to_list().count("held out") == 1

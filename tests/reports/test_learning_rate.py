"""The section on learning rates, and the page of a coordinate check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports.coordinates_page import build_coordinates_page
from reports.page import Figure, Table, walk
from reports.rate_curves import rate_sweeps
from reports.render import render_html
from reports.study_data import load_study
from reports.study_page import build_study_page
from tests.reports.sweeps import RATES, coordinates, write_run, write_sweep


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_sweep(tmp_path)
    return tmp_path


def test_sweeps_are_told_apart_and_the_base_width_counts_for_both(study: Path) -> None:
    standard, mup = rate_sweeps(load_study(study))
    assert (standard.scheme, mup.scheme) == ("standard parametrisation", "muP from width 64")
    assert [curve.width for curve in standard.curves] == [curve.width for curve in mup.curves] == [64, 128, 256]
    assert standard.curves[0].runs == mup.curves[0].runs
    assert [curve.best.value for curve in standard.curves] == pytest.approx([0.016, 0.008, 0.004], rel=1e-6)
    assert standard.shift == pytest.approx((-2.0, 0.1 / 3**0.5 * 2**0.5))
    assert mup.shift is not None and mup.shift[0] == pytest.approx(0.0, abs=1e-9)


def test_runs_that_differ_otherwise_are_another_sweep(study: Path) -> None:
    for lr in RATES:
        write_run(study, 64, lr, 0, 0.008, batch=64)
    sweeps = rate_sweeps(load_study(study))
    assert sorted(len(sweep.curves) for sweep in sweeps) == [1, 3, 3]


def test_a_best_rate_at_the_end_is_marked_and_gives_no_shift(tmp_path: Path) -> None:
    for lr in RATES:
        write_run(tmp_path, 64, lr, 0, 0.008)
        write_run(tmp_path, 128, lr, 0, 0.0005)
    (sweep,) = rate_sweeps(load_study(tmp_path))
    assert sweep.shift is None
    page = build_study_page(tmp_path)
    section = next(section for section in page.sections if section.key == "learning-rate")
    tables = [block for block in walk(section.blocks) if isinstance(block, Table)]
    assert [row[3].text for row in tables[0].rows] == ["0.00746", "≤ 0.00200"]


def test_the_section_has_a_figure_for_each_parametrisation(study: Path) -> None:
    page = build_study_page(study)
    section = next(section for section in page.sections if section.key == "learning-rate")
    figures = [block for block in walk(section.blocks) if isinstance(block, Figure)]
    assert [figure.title for figure in figures] == ["Standard parametrisation", "muP from width 64"]
    assert "multiplied by 0.250: −2.00 ± 0.08 octaves" in figures[0].subtitle
    assert "learning-rate-0" in render_html(page)


def test_a_study_without_a_sweep_has_no_section(tmp_path: Path) -> None:
    for lr in RATES[:2]:
        write_run(tmp_path, 64, lr, 0, 0.008)
    assert "learning-rate" not in [section.key for section in build_study_page(tmp_path).sections]


def test_the_page_of_a_coordinate_check_quotes_the_steepest_slopes() -> None:
    page = build_coordinates_page(coordinates(), "mine", 64)
    (facts, *_) = page.sections[0].blocks
    assert [fact.text for fact in facts.items] == ["+1.00", "−0.02"]  # type: ignore[union-attr]
    assert [figure.title for figure in page.figures()] == ["Standard parametrisation", "With muP"]
    assert json.dumps(page.figures()[0].chart.to_dict()).count("block 0 image") > 0

"""The section on learning rates, and the page of a coordinate check."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from prx_scale.runs import Parameters, RunInfo, RunRecord, State, ValidationRow
from reports.coordinates_page import build_coordinates_page
from reports.page import Figure, Table, walk
from reports.rate_curves import rate_sweeps
from reports.render import render_html
from reports.study_data import load_study
from reports.study_page import build_study_page
from scaling.coordinates import Coordinate

RATES = [0.002, 0.004, 0.008, 0.016, 0.032]


def write_run(study: Path, width: int, lr: float, seed: int, best: float, *, base: int = 0, batch: int = 32) -> None:
    """A finished run whose loss is a parabola in log2 of the rate."""
    name = f"d1-s{seed}-w{width}b{base}x{batch}r{lr:g}".replace(".", "")
    info = RunInfo(
        run=name,
        study="rates",
        variant="mup" if base else "base",
        state=State.DONE,
        config={
            "variant": "mup" if base else "base",
            "model": {"depth": 1, "width": width, "mup_base_width": base, "mup_base_depth": 0},
            "training": {"lr": lr, "seed": seed, "batch": batch, "steps": 10},
        },
        depth=1,
        seed=seed,
        parameters=Parameters(backbone=25 * width**2, embedding=1000, by_part={"blocks": 25 * width**2}),
        flops_per_sample=1000 * width**2,
        tokens_per_sample=16,
        versions={"python": "3.11"},
        commit=None,
        dirty=None,
        device="cpu",
        world_size=1,
        steps=10,
        step=10,
        created="2026-01-02T03:04:05+00:00",
        updated="2026-01-02T04:04:05+00:00",
    )
    loss = 0.1 + 0.01 * math.log2(lr / (best * 2 ** (0.1 * (seed - 1)))) ** 2
    row = ValidationRow(
        step=10,
        samples=10 * batch,
        tokens=160 * batch,
        flops=1e4 * width**2 * batch,
        weights="ema",
        split="heldout",
        loss=loss,
        levels=[0.5, 1.0],
        loss_per_level=[loss, 1.0],
        n=8,
    )
    record = RunRecord(study / "runs" / name)
    record.write(info)
    record.append_all([row])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for lr in RATES:
        for seed in (0, 1, 2):
            for width, best in ((64, 0.016), (128, 0.008), (256, 0.004)):
                write_run(tmp_path, width, lr, seed, best)
            for width in (128, 256):
                write_run(tmp_path, width, lr, seed, 0.016, base=64)
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
    rows = [
        Coordinate(scheme=scheme, width=w, seed=0, step=k, quantity=name, size=1.0, change=k * w**power / 1000)
        for scheme, power in (("standard", 1.0), ("muP", -0.02))
        for w in (64, 128, 256)
        for k in (0, 3)
        for name in ("time", "block 0 image", "output")
    ]
    page = build_coordinates_page(rows, "mine", 64)
    (facts, *_) = page.sections[0].blocks
    assert [fact.text for fact in facts.items] == ["+1.00", "−0.02"]  # type: ignore[union-attr]
    assert [figure.title for figure in page.figures()] == ["Standard parametrisation", "With muP"]
    assert json.dumps(page.figures()[0].chart.to_dict()).count("block 0 image") > 0

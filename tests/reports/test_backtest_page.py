"""The page of a backtest: the numbers of the result, and charts along the extrapolation factor."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import scaling
from reports.backtest_frames import prediction_frame, running_frame
from reports.backtest_page import build_backtest_page, render_backtest_page
from reports.page import Figure, walk
from scaling.backtest import backtest
from scaling.backtest_records import Backtest

ORIGIN = scaling.Provenance(sources=("<i>runs</i>.csv",), n_rows=40, n_used=40, version="0", created="2026-01-02")


def keys(result: Backtest) -> list[str]:
    """The figures of the page, in order."""
    page = build_backtest_page(result, ORIGIN)
    return [block.key for section in page.sections for block in walk(section.blocks) if isinstance(block, Figure)]


def test_the_page_shows_what_the_backtest_says(backtest_of_many: Backtest) -> None:
    html = render_backtest_page(backtest_of_many, ORIGIN)
    assert keys(backtest_of_many) == ["backtest-errors", "backtest-sizes", "backtest-coverage", "backtest-widths"]
    for notice in backtest_of_many.notices:
        assert notice.message.split(":")[0] in html
    for standing in backtest_of_many.standings:
        assert f"{100 * standing.weighted_abs:.2f}" in html and standing.law in html
    assert "<i>runs</i>" not in html
    assert "http://" not in html.split("<script>")[0] and "https://" not in html.split("<script>")[0]


def test_without_resamples_there_are_no_intervals(fit_of_many_sizes: tuple[scaling.FitResult, scaling.Points]) -> None:
    result = backtest(fit_of_many_sizes[1], ["chinchilla"], bootstrap=0, max_cuts=4)
    assert keys(result) == ["backtest-errors", "backtest-sizes"]
    assert not re.search(r"\bnan\b", render_backtest_page(result, ORIGIN).split("<script")[0])


def test_few_predictions_have_points_and_no_running_lines(backtest_of_many: Backtest) -> None:
    few = [
        replace(each, **{name: getattr(each, name)[:6] for name in vars(each) if name != "law"})
        for each in backtest_of_many.predictions
    ]
    assert keys(replace(backtest_of_many, predictions=tuple(few))) == ["backtest-errors"]


def test_predictions_are_those_that_the_scores_are_made_of(backtest_of_many: Backtest) -> None:
    for each in backtest_of_many.predictions:
        for cut in (cut for cut in backtest_of_many.cuts if cut.law == each.law):
            mine = each.cut == cut.flops
            assert mine.sum() == cut.n_test
            assert np.abs(each.error[mine]).mean() == pytest.approx(cut.score.mean_abs, rel=1e-12)
            assert each.inside[mine].mean() == pytest.approx(cut.score.coverage)
            assert each.factor[mine].max() == pytest.approx(cut.extrapolation)
    assert "predictions" not in json.loads(json.dumps(backtest_of_many.to_json()))


def test_a_running_statistic_slides_over_the_factor(backtest_of_many: Backtest) -> None:
    frame = prediction_frame(backtest_of_many)
    running = running_frame(frame, "factor", lambda values: float(np.median(values)))
    for (law,), rows in running.group_by("law"):
        values = rows["value"].to_numpy()
        assert (np.diff(values) >= 0).all() and (np.diff(rows["factor"].to_numpy()) >= 0).all()
        mine = frame.filter(frame["law"] == law)["factor"]
        assert mine.min() <= values[0] <= values[-1] <= mine.max()


def test_the_verb_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from prx_scale.cli import parse

    table = Path(__file__).parents[2] / "examples" / "overtraining" / "overtraining_c4_val.csv"
    out = tmp_path / "backtest.html"
    words = f"backtest {table} --where train_set=rpj --cut 1e20 --cut 1e21 --bootstrap 20 --html {out}"
    assert parse(words.split()).run() == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert "Backtest: " in out.read_text(encoding="utf-8")

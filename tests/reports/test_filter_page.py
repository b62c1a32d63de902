"""The page of a filter: the same numbers as the verdict, its pictures, and what it says where there is nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from prx_scale.data.filters.base import Caption
from prx_scale.data.filters.summary import summarise
from reports.filter_data import FilterSummary
from reports.filter_page import build_filter_page, render_filter_page
from reports.page import Facts, Figure, Gallery, Page, Prose, Section, Table, walk
from reports.render import render_json
from tests.prx_scale.data.filter_data import CUTS, filtered

WEIGHTS = ("caption_words>=q0.5:3", "inverse:cluster")


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> FilterSummary:
    return summarise(filtered(tmp_path_factory.mktemp("filter"), weights=WEIGHTS), Caption())


def section(page: Page, key: str) -> Section:
    return next(each for each in page.sections if each.key == key)


def tables(part: Section) -> list[Table]:
    return [block for block in walk(part.blocks) if isinstance(block, Table)]


def test_the_main_numbers_add_up(summary: FilterSummary) -> None:
    facts = next(b for b in section(build_filter_page(summary), "summary").blocks if isinstance(b, Facts))
    values = {fact.label: fact.value for fact in facts.items}
    assert values["Samples"] == 60 and values["Not usable"] == 6 and values["Copies"] == 6
    assert values["Kept"] + values["Removed by cuts"] + values["Not usable"] == 60  # type: ignore[operator]
    assert 0 < values["Effective samples"] < values["Kept"]  # type: ignore[operator]


def test_cuts_are_told_alone_in_order_and_together(summary: FilterSummary) -> None:
    cuts = section(build_filter_page(summary), "cuts")
    order, overlaps = tables(cuts)
    assert [row[1].value for row in order.rows] == list(CUTS)
    left = 54
    for row, each in zip(order.rows, summary.cuts, strict=True):
        left -= each.first
        assert [cell.value for cell in row[2:7]] == [each.alone, each.first, each.only, each.missing, left]
    assert left == summary.kept
    for one, row in enumerate(overlaps.rows):
        for other, cell in enumerate(row[1:]):
            both = summary.overlaps[one][other]
            assert cell.value == (None if one == other else pytest.approx(both / summary.cuts[one].alone))
    figure = next(block for block in cuts.blocks if isinstance(block, Figure))
    spec = json.dumps(figure.chart.to_dict())
    assert all(each.shown in spec for each in summary.cuts)


def test_every_score_has_a_histogram_with_its_thresholds(summary: FilterSummary) -> None:
    figures = [block for block in section(build_filter_page(summary), "scores").blocks if isinstance(block, Figure)]
    assert [figure.title for figure in figures] == [each.name for each in summary.spreads]
    for figure, each in zip(figures, summary.spreads, strict=True):
        spec = figure.chart.to_dict()
        rows = next(rows for rows in spec["datasets"].values() if "start" in rows[0])
        drawn = sum(row["end"] - row["start"] for row in rows)
        assert drawn == sum(each.kept) + sum(each.here) + sum(each.others)
        thresholds = [row["threshold"] for rows in spec["datasets"].values() for row in rows if "threshold" in row]
        assert thresholds == [line.number for line in each.lines]
    assert "cut: caption_words>=4" in next(figure.subtitle for figure in figures if figure.title == "caption_words")


def test_pictures_are_shown_on_both_sides_of_every_cut(summary: FilterSummary) -> None:
    page = build_filter_page(summary)
    galleries = [block for block in section(page, "examples").blocks if isinstance(block, Gallery)]
    assert [each.title.rsplit(": ")[-1] for each in galleries].count("just removed") == 3
    pairs = next(each for each in galleries if each.wide)
    assert len(pairs.tiles) == 6 and all([p.mark for p in tile] == ["removed", "kept"] for tile in pairs.tiles)
    html = render_filter_page(summary)
    shown = sum(len(tile) for each in galleries for tile in each.tiles)
    assert html.count("data:image/jpeg;base64,") == shown > 30
    assert len(html) < 3_000_000 and "http://" not in html.split("<script")[0]


def test_what_could_not_be_used_is_told_by_reason_and_shard(summary: FilterSummary) -> None:
    reasons, worst = tables(section(build_filter_page(summary), "skipped"))
    assert [(row[0].value, row[1].value) for row in reasons.rows] == [("truncated image", 3), ("unknown format", 3)]
    assert [(row[0].value, row[1].value) for row in worst.rows] == [(f"00{n}.tar", 2) for n in range(3)]


def test_without_cuts_it_says_so(tmp_path: Path) -> None:
    page = build_filter_page(summarise(filtered(tmp_path, cuts=(), distance=None), Caption()))
    said = " ".join(block.text for part in page.sections for block in walk(part.blocks) if isinstance(block, Prose))
    assert "No cut was asked for" in said and "Without cuts there is nothing to compare" in said
    assert "weights" not in {part.key for part in page.sections}
    assert len(page.figures()) == 6


def test_a_cut_that_removes_nothing_and_one_that_removes_all(tmp_path: Path) -> None:
    found = summarise(filtered(tmp_path, cuts=("min_side>=1", "watermark>2")), Caption())
    assert (found.cuts[0].alone, found.cuts[1].alone, found.kept) == (0, 54, 0)
    galleries = [b for b in section(build_filter_page(found), "examples").blocks if isinstance(b, Gallery)]
    assert [each.note for each in galleries] == ["It removes none.", "None is kept.", "", "None is kept."]
    assert render_filter_page(found)


def test_captions_are_shown_as_they_are_and_do_not_run(summary: FilterSummary) -> None:
    hostile = "<script>alert('caption')</script>"
    first = summary.examples[0]
    changed = replace(first, removed=(replace(first.removed[0], caption=hostile, key='"><b>'), *first.removed[1:]))
    html = render_filter_page(replace(summary, examples=(changed, *summary.examples[1:])))
    assert hostile not in html and "&lt;script&gt;alert(&#39;caption&#39;)&lt;/script&gt;" in html
    assert '"><b>' not in html


def test_its_json_has_the_numbers_and_not_the_pictures(summary: FilterSummary) -> None:
    document = json.loads(render_json(build_filter_page(summary)))
    blocks = [block for part in document["sections"] for block in part["blocks"]]
    gallery = next(block for block in blocks if block["kind"] == "gallery")
    first = gallery["tiles"][0][0]
    assert set(first) == {"text", "remark", "mark"}
    assert (first["text"], first["mark"], len(first["remark"].split())) == ("caption_words 3", "removed", 3)


def test_cuts_that_remove_nothing_are_not_drawn(tmp_path: Path) -> None:
    page = build_filter_page(
        summarise(filtered(tmp_path, cuts=("min_side>=1", "min_side>=2"), distance=None), Caption())
    )
    said = " ".join(block.text for part in page.sections for block in walk(part.blocks) if isinstance(block, Prose))
    assert "No cut removes anything." in said and "at least two cuts" not in said
    assert "cuts" not in {figure.key for figure in page.figures()}

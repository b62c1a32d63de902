"""A page is data until it is rendered; then it is one file that refers to nothing outside."""

import json
import re
from pathlib import Path

import altair as alt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.page import (
    Bullets,
    Cell,
    Code,
    Column,
    Details,
    Fact,
    Facts,
    Figure,
    Image,
    ImageGrid,
    ImageRow,
    Page,
    Prose,
    Section,
    Table,
    Verdict,
    text_cell,
)
from reports.render import render_html, render_json, script_json, write_page


def small_page(text: str, chart: bool = False) -> Page:
    """A page with every kind of block, all of whose texts are ``text``."""
    table = Table(title=text, columns=(Column(label=text),), rows=((Cell(value=float("nan"), text=text),),), note=text)
    image = Image(png=b"\x89PNG", alt=text, mark="correct")
    grid = ImageGrid(title=text, columns=(text,), rows=(ImageRow(label=text, hint=text, cells=((image,),)),), note=text)
    folded = Details(summary=text, blocks=(Code(text=text, label=text), Bullets(items=(text,))))
    facts = Facts(items=(Fact(label=text, value=1.5, text=text, note=text),))
    verdict = Verdict(headline=text, text=text, outcome="held")
    figures = (small_figure(text, "only"),) if chart else ()
    blocks = (Prose(text=text), Prose(text=text, tone="warning"), table, grid, folded, facts, verdict, *figures)
    return Page(title=text, subtitle=text, sections=(Section(key="all", title=text, blocks=blocks),), footer=text)


def small_figure(text: str, key: str) -> Figure:
    """A figure whose data hold ``text`` too."""
    chart = alt.Chart(pl.DataFrame({"x": [1.0, 2.0], "name": [text, text]})).mark_point().encode(x="x:Q", y="name:N")
    return Figure(key=key, title=text, chart=chart, description=text, source=text, subtitle=text)


HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&\"'"


def test_hostile_text_is_escaped_everywhere() -> None:
    html = render_html(small_page(HOSTILE, chart=True))
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert html.count("</script>") == 3


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_any_text_leaves_the_structure_alone(text: str) -> None:
    def shape(page: Page) -> list[str]:
        return re.findall(r"</?[a-z][a-z0-9]*", render_html(page))

    assert shape(small_page(text)) == shape(small_page("plain"))


@given(st.recursive(st.text() | st.floats() | st.booleans() | st.none(), st.lists, max_leaves=8))
def test_embedded_json_cannot_end_its_script(data: object) -> None:
    text = script_json(data)
    assert "<" not in text
    json.loads(text)


def test_nothing_is_loaded_from_outside() -> None:
    html = render_html(small_page("plain", chart=True))
    assert "default-src 'none'" in html
    markup = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|data:)', markup)
    assert "@import" not in markup and "url(" not in markup


def test_the_bundle_is_there_once_and_only_for_charts() -> None:
    assert "vegaEmbed" not in render_html(small_page("plain"))
    two = Section(key="s", title="s", blocks=(small_figure("a", "one"), small_figure("a", "two")))
    page = Page(title="t", subtitle="", sections=(two,), footer="")
    assert len(render_html(page)) < 1.2e6
    datasets = json.loads(re.findall(r'id="report-charts">(.*?)</script>', render_html(page))[0])["datasets"]
    assert len(datasets) == 1


def test_json_has_the_same_numbers_and_no_nan() -> None:
    record = json.loads(render_json(small_page("plain", chart=True)))
    kinds = [block["kind"] for block in record["sections"][0]["blocks"]]
    assert kinds == ["prose", "prose", "table", "images", "details", "facts", "verdict", "figure"]
    assert record["sections"][0]["blocks"][2]["rows"] == [[None]]
    assert record["sections"][0]["blocks"][5]["items"][0]["value"] == 1.5


def test_write_replaces_in_one_step(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report.html"
    write_page(small_page("first"), out)
    write_page(small_page("second"), out)
    assert "second" in out.read_text(encoding="utf-8")
    assert sorted(path.name for path in out.parent.iterdir()) == ["report.html", "report.json"]


def test_a_row_has_to_fit_its_header() -> None:
    with pytest.raises(ValueError, match="2 cells, 1 columns"):
        Table(title="t", columns=(Column(label="a"),), rows=((text_cell("x"), text_cell("y")),))


def test_figures_need_different_keys() -> None:
    twice = Section(key="s", title="s", blocks=(small_figure("a", "one"), small_figure("b", "one")))
    with pytest.raises(ValueError, match="different keys"):
        render_html(Page(title="t", subtitle="", sections=(twice,), footer=""))

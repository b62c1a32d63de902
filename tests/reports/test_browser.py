"""Reports opened as a reader opens them: from a file, offline, in a real browser, on a desk and on a phone."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import scaling
from prx_scale.data.filters.base import Caption
from prx_scale.data.filters.summary import summarise
from reports.backtest_page import render_backtest_page
from reports.coordinates_page import render_coordinates_page
from reports.filter_page import render_filter_page
from reports.fit_page import render_fit_page
from reports.study_page import build_study_page, write_study_report
from scaling.backtest_records import Backtest
from tests.prx_scale.data.filter_data import filtered
from tests.reports.sweeps import coordinates, write_sweep

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
REQUIRED = os.environ.get("PRX_REQUIRE_CHROMIUM") == "1"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REQUIRED and not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    sync_api = (
        pytest.importorskip("playwright.sync_api") if not REQUIRED else __import__("playwright.sync_api").sync_api
    )
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(
    full_study: Path,
    synthetic_fit: tuple[scaling.FitResult, scaling.Points],
    fit_of_many_sizes: tuple[scaling.FitResult, scaling.Points],
    backtest_of_many: Backtest,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A study page, two fit pages, the pages of a backtest, a sweep, a coordinate check and a filter as files."""
    folder = tmp_path_factory.mktemp("pages")
    fit = folder / "fit.html"
    fit.write_text(render_fit_page(*synthetic_fit), encoding="utf-8")
    many = folder / "many.html"
    many.write_text(render_fit_page(*fit_of_many_sizes), encoding="utf-8")
    tested = folder / "backtest.html"
    origin = scaling.Provenance(sources=("runs.csv",), n_rows=40, n_used=40)
    tested.write_text(render_backtest_page(backtest_of_many, origin), encoding="utf-8")
    check = folder / "check.html"
    check.write_text(render_coordinates_page(coordinates(), "check", 64), encoding="utf-8")
    cuts = folder / "filter.html"
    summary = summarise(filtered(folder / "filter", weights=("caption_words>=q0.5:3",)), Caption())
    cuts.write_text(render_filter_page(summary), encoding="utf-8")
    rates = folder / "rates"
    write_sweep(rates)
    return {
        "backtest": tested,
        "check": check,
        "filter": cuts,
        "rates": write_study_report(rates, folder / "rates.html"),
        "many": many,
        "study": write_study_report(full_study, folder / "study.html"),
        "fit": fit,
    }


@dataclass(kw_only=True)
class Opened:
    """An open page, and what went wrong on it."""

    page: Any
    complaints: list[str] = field(default_factory=list[str])
    requests: list[str] = field(default_factory=list[str])

    def settle(self, theme: str) -> None:
        """Wait until the charts are drawn in that theme."""
        self.page.wait_for_selector(f"html[data-charts={theme}]", timeout=60_000)


def open_page(browser: Any, path: Path, *, width: int = 1280, theme: str = "light") -> Opened:
    """Open a file in a fresh, offline context and wait for its charts."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, offline=True)
    opened = Opened(page=context.new_page())
    opened.page.on("console", lambda message: opened.complaints.append(f"{message.type}: {message.text}"))
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.goto(path.as_uri())
    opened.settle(theme)
    return opened


OVERFLOWING = """() => [...document.querySelectorAll('body *')]
  .filter((node) => !node.closest('.scroll, pre, .skip, details:not([open]), .vega-actions'))
  .filter((node) => node.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map((node) => `${node.tagName}.${node.getAttribute('class')}: ${node.getBoundingClientRect().right}`)"""
MARKS = """() => Object.fromEntries([...document.querySelectorAll('[data-chart]')].map((box) =>
  [box.dataset.chart, box.querySelectorAll('svg .role-mark path, svg .role-mark line').length]))"""
CLIPPED = """() => [...document.querySelectorAll('[data-chart] svg')].flatMap((svg) => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter((text) => {
    const box = text.getBoundingClientRect();
    const shown = Number(getComputedStyle(text).opacity) > 0 && box.width > 0;
    return shown && (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1);
  }).map((text) => `${svg.closest('[data-chart]').dataset.chart}: ${text.textContent}`);
})"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["study", "fit", "many", "backtest", "check", "rates", "filter"])
def test_a_report_opens_offline_and_fits(
    browser: Any, pages: dict[str, Path], name: str, width: int, theme: str
) -> None:
    opened = open_page(browser, pages[name], width=width, theme=theme)
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in opened.requests if url.startswith("file:")]) == 1
    marks = opened.page.evaluate(MARKS)
    assert len(marks) == {"study": 10, "fit": 3, "many": 3, "backtest": 4, "check": 2, "rates": 5, "filter": 7}[name]
    assert all(number > 0 for number in marks.values()), marks
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.evaluate(OVERFLOWING) == []
    assert opened.page.evaluate(CLIPPED) == []
    opened.page.context.close()


def test_charts_follow_a_change_of_theme_and_the_printer(browser: Any, pages: dict[str, Path]) -> None:
    opened = open_page(browser, pages["study"])
    opened.page.emulate_media(color_scheme="dark")
    opened.settle("dark")
    opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    opened.settle("light")
    opened.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    opened.settle("dark")
    assert opened.complaints == []
    assert opened.page.locator("[data-chart] svg.marks").count() == 10
    opened.page.context.close()


def test_charts_follow_the_width(browser: Any, pages: dict[str, Path]) -> None:
    opened = open_page(browser, pages["fit"])
    opened.page.set_viewport_size({"width": 420, "height": 800})
    opened.page.wait_for_function("document.querySelector('[data-chart] svg').getBoundingClientRect().width < 420")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 420
    opened.page.context.close()


def test_a_reader_who_does_not_see_gets_the_same(browser: Any, pages: dict[str, Path], full_study: Path) -> None:
    opened = open_page(browser, pages["study"])
    labels = opened.page.evaluate(
        "[...document.querySelectorAll('[role=graphics-document]')].map(s => s.getAttribute('aria-label'))"
    )
    assert labels == [figure.description for figure in build_study_page(full_study).figures()]
    assert opened.page.evaluate("[...document.images].filter(image => !image.alt || !image.naturalWidth).length") == 0
    headings = opened.page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))")
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))
    opened.page.context.close()


def test_hostile_names_do_not_run(browser: Any, pages: dict[str, Path]) -> None:
    opened = open_page(browser, pages["study"])
    assert opened.page.locator("text=<script>alert('prompt')</script>").count() > 0
    assert opened.page.locator("main script, main b").count() == 0
    opened.page.context.close()

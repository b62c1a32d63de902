"""Rendering: a :class:`reports.page.Page` becomes one self-contained HTML file and the same numbers as JSON.

The Vega bundle is embedded once for all charts, the data that charts share is stored once, images are data URIs, and
a content security policy forbids the browser to load anything else: the file opens offline, and stays so.
Vega evaluates expressions with ``Function``, hence ``unsafe-eval`` for scripts inside the file.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from prx_scale.runs.files import write_atomically
from reports.page import (
    Block,
    Bullets,
    Code,
    Details,
    Facts,
    Figure,
    Gallery,
    ImageGrid,
    Page,
    Prose,
    Table,
    Verdict,
)
from scaling.plots.themes import themes


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and vegaEmbed as one script (0.9 MB), safe to stand between script tags."""
    script = cast(str, cast(Any, vl_convert).javascript_bundle())
    return script.replace("</script", "<\\/script")


def render_html(page: Page) -> str:
    """The whole page as one HTML document without any outside reference."""
    figures = page.figures()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            style=Markup(_asset("style.css")),
            bundle=Markup(vega_bundle()) if figures else "",
            script=Markup(_asset("report.js")),
            charts=Markup(script_json(chart_data(figures))),
        )
    )


def render_json(page: Page) -> str:
    """The page's numbers as JSON: sections, tables with raw values, facts, figures with their tables."""
    sections = [
        {"key": section.key, "title": section.title, "blocks": [block_json(block) for block in section.blocks]}
        for section in page.sections
    ]
    document = {"schema": 1, "title": page.title, "subtitle": page.subtitle, "sections": sections}
    return json.dumps(finite(document), ensure_ascii=False, indent=1, allow_nan=False)


def write_page(page: Page, out: Path) -> Path:
    """Write the page to ``out`` and its numbers beside it, each in one step, so that a reader never sees a half.

    Args:
        page: what to write.
        out: the HTML file; the JSON gets the same name with ``.json``.

    Returns:
        The path of the HTML file.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out.with_suffix(".json"), render_json(page))
    write_atomically(out, render_html(page))
    return out


def chart_data(figures: tuple[Figure, ...]) -> dict[str, Any]:
    """Specifications and themes for the page's script; data sets that several charts share are stored once."""
    datasets: dict[str, Any] = {}
    specs: dict[str, Any] = {}
    for figure in figures:
        spec: dict[str, Any] = figure.chart.to_dict()
        datasets |= spec.pop("datasets", {})
        spec.pop("$schema", None)
        spec.pop("config", None)
        spec["description"] = figure.description
        specs[figure.key] = spec
    return {"themes": themes(), "datasets": round_numbers(datasets), "specs": specs}


def script_json(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(finite(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def round_numbers(data: Any) -> Any:
    """Floats to six significant digits: more cannot be seen in a chart and doubles the page."""
    if isinstance(data, float):
        return float(f"{data:.6g}") if math.isfinite(data) else None
    return _map(data, round_numbers)


def finite(data: Any) -> Any:
    """NaN and infinities become null, which is what JSON has for them."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    return _map(data, finite)


def _map(data: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(data, dict):
        return {key: function(value) for key, value in cast("dict[Any, Any]", data).items()}
    if isinstance(data, (list, tuple)):
        return [function(value) for value in cast("list[Any]", data)]
    return data


def block_json(block: Block) -> dict[str, Any]:
    """One block as JSON; images are counted, not repeated."""
    match block:
        case Prose() | Bullets() | Code() | Verdict():
            return {"kind": type(block).__name__.lower(), **vars(block)}
        case Facts():
            return {"kind": "facts", "items": [vars(fact) for fact in block.items]}
        case Table():
            return {"kind": "table", **_table_json(block)}
        case Figure():
            table = _table_json(block.table) if block.table else None
            words = {"subtitle": block.subtitle, "description": block.description, "source": block.source}
            return {"kind": "figure", "key": block.key, "title": block.title, **words, "table": table}
        case ImageGrid():
            rows = [
                {"prompt": row.label, "marks": [[i.mark for i in cell] for cell in row.cells]} for row in block.rows
            ]
            return {"kind": "images", "title": block.title, "columns": block.columns, "rows": rows}
        case Gallery():
            tiles = [[{"text": p.text, "remark": p.remark, "mark": p.mark} for p in tile] for tile in block.tiles]
            return {"kind": "gallery", "title": block.title, "tiles": tiles}
        case Details():
            return {"kind": "details", "summary": block.summary, "blocks": [block_json(b) for b in block.blocks]}


def _table_json(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": [column.label for column in table.columns],
        "rows": [[cell.value for cell in row] for row in table.rows],
        "note": table.note,
    }


def data_uri(png: bytes) -> str:
    """A PNG as the address of itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def jpeg_uri(jpeg: bytes) -> str:
    """A JPEG as the address of itself."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _kind(block: Block) -> str:
    return type(block).__name__.lower()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[[Any], str]] = {"data_uri": data_uri, "jpeg_uri": jpeg_uri, "kind": _kind}
    cast(Any, environment).filters.update(filters)
    return environment


def _asset(name: str) -> str:
    return resources.files("reports").joinpath("assets", name).read_text(encoding="utf-8")

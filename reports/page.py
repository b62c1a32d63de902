"""A report as data: frozen records of what the page says, rendered last by :mod:`reports.render`.

Nothing here knows HTML. A section is built by a pure function, can be tested as a value, and the same records give
the page and the JSON beside it, so that the numbers on both are the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from scaling.plots.axes import AnyChart

Value: TypeAlias = float | int | str | bool | None
Tone: TypeAlias = Literal["plain", "note", "warning"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table: the raw value for the JSON, the text for the reader."""

    value: Value
    text: str
    tone: Literal["plain", "good", "bad"] = "plain"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table."""

    label: str
    numeric: bool = True
    """Right-aligned with figures of one width."""
    wraps: bool = False
    """Long text, broken into lines; other cells stay on one line."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns; scrolls within its own box when the page is narrower."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse a row that does not fit the header.

        Raises:
            ValueError: a row has more or fewer cells than there are columns.
        """
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"table '{self.title}', row {number}: {len(row)} cells, {len(self.columns)} columns")


@dataclass(frozen=True, kw_only=True)
class Prose:
    """A paragraph of plain text; ``tone`` sets notes and warnings apart by a word as well as by colour."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, kw_only=True)
class Bullets:
    """A short list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Code:
    """Text shown as it is typed: commands, configuration."""

    text: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One main number of the summary."""

    label: str
    value: Value
    text: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The main numbers, side by side."""

    items: tuple[Fact, ...]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the study says, in plain words."""

    headline: str
    text: str
    outcome: Literal["held", "missed", "open"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with all that a reader needs to trust it, or to do without seeing it."""

    key: str
    """Identifier within the page: letters, digits, dashes."""
    title: str
    chart: AnyChart
    description: str
    """What the chart shows, for a screen reader."""
    source: str
    """Where its numbers came from."""
    subtitle: str = ""
    table: Table | None = None
    """The same numbers as a table, folded away."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """A small PNG with what a reader who cannot see it should know."""

    png: bytes
    alt: str
    mark: Literal["correct", "incorrect", "unjudged"] = "unjudged"


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One prompt and, for every column, the images that it gave."""

    label: str
    hint: str
    cells: tuple[tuple[Image, ...], ...]


@dataclass(frozen=True, kw_only=True)
class ImageGrid:
    """Images side by side: prompts down, depths across."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[ImageRow, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A small JPEG with words below it."""

    jpeg: bytes
    width: int
    height: int
    alt: str
    text: str
    remark: str = ""
    mark: Literal["kept", "removed"] = "kept"


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Photographs in rows that break where the page ends; those of one tile stay together."""

    title: str
    tiles: tuple[tuple[Photo, ...], ...]
    note: str = ""
    wide: bool = False
    """Tiles of two photographs."""


@dataclass(frozen=True, kw_only=True)
class Details:
    """Blocks folded under one line."""

    summary: str
    blocks: tuple[Block, ...]


Block: TypeAlias = Prose | Bullets | Code | Facts | Verdict | Figure | Table | ImageGrid | Gallery | Details


@dataclass(frozen=True, kw_only=True)
class Section:
    """A headed part of the page."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report. The first section is the summary; the table of contents lists all of them."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    footer: str

    def figures(self) -> tuple[Figure, ...]:
        """Every figure of the page, in reading order.

        Raises:
            ValueError: two figures share a key.
        """
        found = tuple(block for section in self.sections for block in walk(section.blocks) if isinstance(block, Figure))
        keys = [figure.key for figure in found]
        if len(set(keys)) != len(keys):
            raise ValueError(f"figures of one page need different keys, got {keys}")
        return found


def walk(blocks: tuple[Block, ...]) -> Iterator[Block]:
    """All blocks, those inside folded parts too, in reading order."""
    for block in blocks:
        yield block
        if isinstance(block, Details):
            yield from walk(block.blocks)


def text_cell(text: str, tone: Literal["plain", "good", "bad"] = "plain") -> Cell:
    """A cell whose value is its text."""
    return Cell(value=text, text=text, tone=tone)

"""Sections of the page of a filter: cuts, distributions, examples, what could not be used."""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from reports import units
from reports.charts import filter as charts
from reports.filter_data import CutSummary, Example, Examples, FilterSummary, Spread
from reports.page import Block, Cell, Column, Figure, Gallery, Photo, Prose, Section, Table, text_cell


def cut_blocks(summary: FilterSummary) -> list[Block]:
    """What each cut removes: a chart, the numbers, and how cuts overlap.

    Args:
        summary: of a filter.
    """
    if not summary.cuts:
        return [Prose(text="No cut was asked for: every sample that could be used is kept.", tone="note")]
    if not any(each.alone for each in summary.cuts):
        return [_cut_table(summary)]
    blocks: list[Block] = [_removed(summary), _cut_table(summary)]
    return [*blocks, _overlaps(summary)] if len(summary.cuts) > 1 else blocks


def spread_blocks(summary: FilterSummary) -> list[Block]:
    """A histogram of every score.

    Args:
        summary: of a filter.
    """
    text = (
        "Every score over all samples that could be used: kept, removed by a cut on this score (here), or only by cuts "
        "on others (elsewhere). A dashed line is a threshold. The few values beyond an axis are counted into its first "
        "and last bar."
    )
    return [Prose(text=text), *(_spread(each, number) for number, each in enumerate(summary.spreads))]


def example_blocks(summary: FilterSummary) -> list[Block]:
    """For every cut, samples nearest to its threshold on both sides; of copies, pairs.

    Args:
        summary: of a filter.
    """
    if not summary.examples:
        return [Prose(text="Without cuts there is nothing to compare.", tone="note")]
    text = (
        "The samples whose scores are nearest to each threshold, on both sides of it: would you have decided so? A "
        "cross marks removed ones, a tick kept ones. Not chosen by hand; of equally near ones by chance."
    )
    blocks: list[Block] = [Prose(text=text)]
    for each in summary.examples:
        blocks += _galleries(each)
    return blocks


def skipped_blocks(summary: FilterSummary) -> list[Block]:
    """How many samples could not be used, why, and where.

    Args:
        summary: of a filter.
    """
    if not summary.skipped:
        return [Prose(text="Every sample could be read.")]
    total = summary.samples
    rows = tuple(
        (text_cell(reason), Cell(value=count, text=units.count(count)), _share(count, total))
        for reason, count in summary.skipped.items()
    )
    worst = tuple(
        (text_cell(name), Cell(value=skipped, text=units.count(skipped)), _share(skipped, count))
        for name, skipped, count in summary.worst
    )
    return [
        Table(title="Samples that could not be used", columns=_columns("Reason", "Samples", "Of all"), rows=rows),
        Table(
            title="Shards with the most of them",
            columns=_columns("Shard", "Samples", "Of the shard"),
            rows=worst,
            note="The table of samples has the reason and the detail of each.",
        ),
    ]


def scorer_table(summary: FilterSummary) -> Table:
    """Where the scores came from.

    Args:
        summary: of a filter.
    """
    rows = tuple((text_cell(name), text_cell(columns), text_cell(digest)) for name, columns, digest in summary.scorers)
    return Table(
        title="Scorers",
        columns=(
            Column(label="Scorer", numeric=False),
            Column(label="Scores", numeric=False, wraps=True),
            _plain("Hash"),
        ),
        rows=rows,
        note="The hash changes with anything that changes a score: weights, preprocessing, code of your own.",
    )


def _removed(summary: FilterSummary) -> Figure:
    rows = [
        {"cut": each.shown, "kind": kind, "start": start, "end": end}
        for each in summary.cuts
        for kind, start, end in ((charts.ONLY, 0, each.only), (charts.SHARED, each.only, each.alone))
    ]
    most = max(summary.cuts, key=lambda each: each.alone)
    return Figure(
        key="cuts",
        title="What each cut removes",
        subtitle="Each by itself, of all samples that could be used.",
        chart=charts.removed_by_cut(pl.DataFrame(rows)),
        description=f"Bars of the samples that each cut removes by itself. The most is {most.alone}, by {most.shown}.",
        source=f"Source: {summary.source}.",
    )


def _cut_table(summary: FilterSummary) -> Table:
    usable = summary.samples - sum(summary.skipped.values())
    headings = ("", "Cut", "Removes alone", "In order", "No other does", "Lack the score", "Left", "Share left")
    rows = tuple(_cut_row(number, each, usable) for number, each in enumerate(summary.cuts, 1))
    return Table(
        title="Cuts in their order",
        columns=tuple(Column(label=each, numeric=place != 1) for place, each in enumerate(headings)),
        rows=rows,
        note="In order: removed by this cut and by none before it. A quantile is one of all samples with the score.",
    )


def _cut_row(number: int, each: CutSummary, usable: int) -> tuple[Cell, ...]:
    counts = (each.alone, each.first, each.only, each.missing, each.left)
    return (
        Cell(value=number, text=str(number)),
        Cell(value=each.text, text=each.shown),
        *(Cell(value=count, text=units.count(count)) for count in counts),
        _share(each.left, usable),
    )


def _overlaps(summary: FilterSummary) -> Table:
    numbers = range(len(summary.cuts))
    rows = tuple(
        (
            text_cell(f"{one + 1}: {summary.cuts[one].shown}"),
            *(_overlap(summary.overlaps[one][other], summary.cuts[one].alone, same=one == other) for other in numbers),
        )
        for one in numbers
    )
    return Table(
        title="How cuts overlap",
        columns=(_plain("Of what is removed by"), *(Column(label=f"so does {number + 1}") for number in numbers)),
        rows=rows,
        note="A cut whose row is near 100 % somewhere hardly removes anything of its own.",
    )


def _overlap(both: int, alone: int, *, same: bool) -> Cell:
    if same or not alone:
        return Cell(value=None, text=units.NOTHING)
    return Cell(value=both / alone, text=units.percent(both / alone))


def _spread(each: Spread, number: int) -> Figure:
    middle = _value(each, each.quantiles[0.5])
    lines = "; ".join(line.text for line in each.lines)
    subtitle = f"Median {middle}" + (f"; cut: {lines}" if lines else "; no cut") + "."
    if each.missing:
        subtitle += f" {units.plural(each.missing, 'sample')} without it."
    return Figure(
        key=f"spread-{number}",
        title=each.name,
        subtitle=subtitle,
        chart=charts.spread(
            _stacked(each), [line.number for line in each.lines], each.name, logarithmic=each.logarithmic
        ),
        description=f"Histogram of {each.name}. {subtitle}",
        source=f"{units.count(sum(map(sum, (each.kept, each.here, each.others))))} samples with the score.",
        table=_quantiles(each),
    )


def _value(each: Spread, value: float) -> str:
    return units.count(value) if each.whole else units.significant(value, 3)


def _stacked(each: Spread) -> pl.DataFrame:
    """The bars of a histogram: low, high, kind, start, end."""
    rows: list[dict[str, float | str]] = []
    for place, (low, high) in enumerate(pairwise(each.edges)):
        start = 0
        for kind, counts in ((charts.KEPT, each.kept), (charts.HERE, each.here), (charts.OTHERS, each.others)):
            end = start + counts[place]
            if end > start:
                rows.append({"low": low, "high": high, "kind": kind, "start": start, "end": end})
            start = end
    return pl.DataFrame(rows)


def _quantiles(each: Spread) -> Table:
    rows = tuple(
        (Cell(value=share, text=f"{share:g}"), Cell(value=value, text=_value(each, value)))
        for share, value in each.quantiles.items()
    )
    return Table(
        title=f"Quantiles of {each.name}", columns=(Column(label="Quantile"), Column(label="Value")), rows=rows
    )


def _galleries(each: Examples) -> list[Block]:
    if each.pairs:
        pairs = zip(each.removed, each.kept, strict=True)
        tiles = tuple((_photo(removed, "removed"), _photo(kept, "kept")) for removed, kept in pairs)
        note = "The removed copy, and the one that is kept." if tiles else "It removes none."
        return [Gallery(title=f"{each.cut}: copies", tiles=tiles, note=note, wide=True)]
    removed = tuple((_photo(example, "removed"),) for example in each.removed)
    kept = tuple((_photo(example, "kept"),) for example in each.kept)
    return [
        Gallery(title=f"{each.cut}: just removed", tiles=removed, note="" if removed else "It removes none."),
        Gallery(title=f"{each.cut}: just kept", tiles=kept, note="" if kept else "None is kept."),
    ]


def _photo(example: Example, mark: str) -> Photo:
    return Photo(
        jpeg=example.jpeg,
        width=example.width,
        height=example.height,
        alt=f"{example.key}, {mark}: {example.caption or 'without caption'}",
        text=example.note,
        remark=example.caption,
        mark="removed" if mark == "removed" else "kept",
    )


def _columns(*names: str) -> tuple[Column, ...]:
    return tuple(Column(label=name, numeric=place > 0) for place, name in enumerate(names))


def _plain(name: str) -> Column:
    return Column(label=name, numeric=False)


def _share(part: int, whole: int) -> Cell:
    share = part / whole if whole else None
    return Cell(value=share, text=units.percent(share))


def weight_section(summary: FilterSummary) -> tuple[Section, ...]:
    """How kept samples are weighted, or nothing where they are not.

    Args:
        summary: of a filter.
    """
    if not summary.weights:
        return ()
    rows = tuple((text_cell(each.text), text_cell(each.shown)) for each in summary.weights)
    text = (
        f"A weight says how often a sample is to be seen, 1 on average over those kept. The largest is "
        f"{units.significant(summary.heaviest, 3)}. Effective are {units.count(summary.effective)} samples, "
        f"{units.percent(summary.effective / summary.kept if summary.kept else None)} of those kept."
    )
    table = Table(title="Weights, multiplied", columns=(_plain("Asked for"), _plain("Weight")), rows=rows)
    return (Section(key="weights", title="Weights", blocks=(Prose(text=text), table)),)

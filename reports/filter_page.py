"""The page of a filter, for ``prx-scale filter --html``."""

from __future__ import annotations

from reports import units
from reports.filter_data import FilterSummary
from reports.page import Block, Code, Fact, Facts, Page, Prose, Section
from reports.render import render_html
from reports.sections.filter import (
    cut_blocks,
    example_blocks,
    scorer_table,
    skipped_blocks,
    spread_blocks,
    weight_section,
)


def render_filter_page(summary: FilterSummary) -> str:
    """The whole page as HTML.

    Args:
        summary: of the filter.
    """
    return render_html(build_filter_page(summary))


def build_filter_page(summary: FilterSummary) -> Page:
    """The page as data.

    Args:
        summary: of the filter.
    """
    made = summary.provenance
    blocks: tuple[Block, ...] = (_facts(summary), Prose(text=_sentence(summary)))
    command = Code(text=str(made.get("command", "")), label="The command")
    return Page(
        title="Filter",
        subtitle=f"{units.plural(len(summary.cuts), 'cut')} through {summary.source}.",
        sections=(
            Section(key="summary", title="Summary", blocks=blocks),
            Section(key="cuts", title="Cuts", blocks=tuple(cut_blocks(summary))),
            Section(key="examples", title="At the thresholds", blocks=tuple(example_blocks(summary))),
            Section(key="scores", title="Scores", blocks=tuple(spread_blocks(summary))),
            *weight_section(summary),
            Section(key="skipped", title="Not usable", blocks=tuple(skipped_blocks(summary))),
            Section(key="provenance", title="Where it came from", blocks=(scorer_table(summary), command)),
        ),
        footer=f"Made by prx-scale {made.get('version', '')} on {units.moment(made.get('created'))}. This file is "
        "complete in itself and opens offline.",
    )


def _facts(summary: FilterSummary) -> Facts:
    skipped = sum(summary.skipped.values())
    numbers = (
        ("Samples", summary.samples, ""),
        ("Kept", summary.kept, _of(summary.kept, summary.samples)),
        ("Removed by cuts", summary.removed, _of(summary.removed, summary.samples)),
        ("Not usable", skipped, _of(skipped, summary.samples)),
    )
    facts = [Fact(label=label, value=value, text=units.count(value), note=note) for label, value, note in numbers]
    if summary.copies is not None:
        note = "the same hash" if not summary.distance else f"hashes within {units.plural(summary.distance, 'bit')}"
        facts.append(Fact(label="Copies", value=summary.copies, text=units.count(summary.copies), note=note))
    if summary.weights:
        share = _of(summary.effective, summary.kept, "of those kept")
        text = units.count(summary.effective)
        facts.append(Fact(label="Effective samples", value=summary.effective, text=text, note=share))
    return Facts(items=tuple(facts))


def _of(part: float, whole: int, what: str = "of all") -> str:
    return f"{units.percent(part / whole)} {what}" if whole else ""


def _sentence(summary: FilterSummary) -> str:
    if not summary.cuts:
        return "Samples were scored and not cut. Nothing was deleted or changed."
    if not any(each.alone for each in summary.cuts):
        return "No cut removes anything. Nothing was deleted or changed."
    most = max(summary.cuts, key=lambda each: each.only)
    unique = (
        f"The cut that most depends on is {most.shown}: {units.count(most.only)} samples that no other removes."
        if most.only
        else "Every sample that is removed is removed by at least two cuts."
    )
    return f"{unique} Nothing was deleted or changed: the result is a table, and later steps read it."

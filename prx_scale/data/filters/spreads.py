"""Histograms of scores: kept, removed by a cut on the score, removed by others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.filters.cuts import Floats
from prx_scale.data.filters.scoretable import Scores
from prx_scale.data.filters.verdict import Verdict
from reports.filter_data import Line, Spread

BINS = 48
QUANTILES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
HIDDEN = ("height", "width", "file_bytes", "caption_chars")
"""Scores that are shown only if something cuts by them: others say nearly the same."""
_ENDS = (0.002, 0.998)
_LOG_FROM = 8.0
_COUNTABLE = 50


def spreads(scores: Scores, verdict: Verdict) -> tuple[Spread, ...]:
    """The distribution of every score that is a number and that some sample has.

    Args:
        scores: of all samples.
        verdict: on them.
    """
    cut = {each.cut.column for each in verdict.counts}
    names = [name for name, kind in scores.types.items() if kind in ("float", "int")]
    shown = [name for name in names if name in cut or name not in HIDDEN]
    found = (spread(name, scores.numbers(name), verdict, whole=scores.types[name] == "int") for name in shown)
    return tuple(each for each in found if each is not None)


def spread(name: str, values: Floats, verdict: Verdict, *, whole: bool) -> Spread | None:
    """The distribution of one score; None where no sample has it.

    Args:
        name: of the score.
        values: (N,) nan for samples without.
        verdict: on the samples.
        whole: whether the values are whole numbers.
    """
    known = ~np.isnan(values) & ~verdict.skipped
    if not known.any():
        return None
    own = [place for place, each in enumerate(verdict.counts) if each.cut.column == name]
    lines = tuple(Line(text=verdict.counts[place].cut.text, number=verdict.counts[place].number) for place in own)
    here = np.zeros(len(values), dtype=np.bool_)
    for place in own:
        here |= verdict.removed[place]
    edges = bin_edges(values[known], [line.number for line in lines], whole=whole)
    groups = (known & verdict.keep, known & here, known & ~verdict.keep & ~here)
    kept, removed, others = (_counted(values[group], edges) for group in groups)
    quantiles = np.quantile(values[known], QUANTILES)
    return Spread(
        name=name,
        edges=tuple(edges.tolist()),
        kept=kept,
        here=removed,
        others=others,
        logarithmic=is_logarithmic(values[known], whole=whole),
        whole=whole,
        outside=int(((values[known] < edges[0]) | (values[known] > edges[-1])).sum()),
        missing=int((~known & ~verdict.skipped).sum()),
        quantiles=dict(zip(QUANTILES, quantiles.tolist(), strict=True)),
        lines=lines,
    )


def bin_edges(values: Floats, thresholds: list[float], *, whole: bool) -> Floats:
    """Edges of bins of one width over nearly all values, laid so that the first threshold parts two of them.

    Args:
        values: (n,) at least one.
        thresholds: of cuts.
        whole: whether the values are whole numbers; then a bin holds as many of them as any other, where it can.
    """
    low, high = np.quantile(values, _ENDS)
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    inside = [number for number in thresholds if low < number < high]
    if is_logarithmic(values, whole=whole):
        edges = np.geomspace(low, high, BINS + 1)
        return edges * (inside[0] / _nearest(edges, inside[0])) if inside else edges
    step = max(round((high - low + 1) / BINS), 1) if whole else (high - low) / BINS
    edges = np.arange(low - 0.5, high + step, step) if whole else np.linspace(low, high, BINS + 1)
    if not inside:
        return edges
    parting = inside[0] - 0.5 if whole else inside[0]
    return edges + (parting - _nearest(edges, parting))


def is_logarithmic(values: Floats, *, whole: bool) -> bool:
    """Whether values are better shown on a logarithmic axis.

    Args:
        values: (n,) at least one.
        whole: whether they are whole numbers; only large counts are, such as pixels.
    """
    low, high = np.quantile(values, _ENDS)
    return bool(whole and low >= _COUNTABLE and high / low >= _LOG_FROM)


def _nearest(edges: Floats, number: float) -> float:
    return float(edges[np.argmin(np.abs(edges - number))])


def _counted(values: Floats, edges: NDArray[np.float64]) -> tuple[int, ...]:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return tuple(counts.tolist())

"""What the page of a filter shows."""

from __future__ import annotations

import numpy as np

from prx_scale.data.filters.base import Caption
from prx_scale.data.filters.cuts import shown
from prx_scale.data.filters.examples import examples
from prx_scale.data.filters.scoretable import Scores
from prx_scale.data.filters.spreads import spreads
from prx_scale.data.filters.verdict import KEPT, Verdict
from prx_scale.data.filters.weights import Boost
from prx_scale.data.filters.writing import Result, skipped_by_reason
from reports.filter_data import CutSummary, FilterSummary, WeightSummary

_WORST = 5


def summarise(result: Result, caption: Caption) -> FilterSummary:
    """The numbers and pictures of a filter.

    Args:
        result: of the filter.
        caption: which one is shown beside pictures.
    """
    verdict, rules = result.verdict, result.rules
    return FilterSummary(
        source=result.source.spec,
        samples=len(verdict.keep),
        kept=int(verdict.keep.sum()),
        removed=int((verdict.reason != KEPT).sum()),
        skipped=skipped_by_reason(result.scores),
        worst=worst_shards(result.scores, verdict),
        cuts=cut_summaries(verdict),
        overlaps=verdict.overlaps,
        copies=None if verdict.copies is None else int((verdict.copies >= 0).sum()),
        distance=rules.distance or 0,
        spreads=spreads(result.scores, verdict),
        examples=examples(result, caption),
        weights=tuple(
            WeightSummary(
                text=weight.text,
                shown=f"{shown(weight.cut, number)}: times {weight.factor:g}"
                if isinstance(weight, Boost)
                else f"by count of {weight.column} ^ -{weight.power:g}",
            )
            for weight, number in zip(rules.weights, verdict.boosts, strict=True)
        ),
        heaviest=float(verdict.weight.max(initial=0)),
        effective=verdict.effective,
        scorers=tuple((each.name, ", ".join(each.columns), each.hash) for each in result.scorers),
        provenance=result.provenance,
    )


def cut_summaries(verdict: Verdict) -> tuple[CutSummary, ...]:
    """What each cut removes, and what is left after it.

    Args:
        verdict: on the samples.
    """
    left, found = int((~verdict.skipped).sum()), list[CutSummary]()
    for each in verdict.counts:
        left -= each.first
        found.append(
            CutSummary(
                text=each.cut.text,
                shown=shown(each.cut, each.number),
                alone=each.alone,
                first=each.first,
                only=each.only,
                missing=each.missing,
                left=left,
            )
        )
    return tuple(found)


def worst_shards(scores: Scores, verdict: Verdict) -> tuple[tuple[str, int, int], ...]:
    """The shards with the most samples that could not be used.

    Args:
        scores: of all samples.
        verdict: on them.
    """
    before = np.concatenate([[0], np.cumsum(verdict.skipped)])
    skipped = before[scores.starts[1:]] - before[scores.starts[:-1]]
    order = np.argsort(-skipped, kind="stable")[:_WORST]
    return tuple((scores.shards[each], int(skipped[each]), scores.counts[each]) for each in order if skipped[each])

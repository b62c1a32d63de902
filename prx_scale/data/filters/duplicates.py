"""Near-duplicates: which samples are copies of another one, by the distance of their hashes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.filters.phash import Hashes, distance

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]

FARTHEST = 12
"""Distance up to which hashes are compared: beyond it, images that have nothing to do with each other come up too."""
_SORTING = 5
"""What it takes to sort a hash, in comparisons of two."""
_MORE_BANDS = 5


def duplicates(hashes: Hashes, priority: Numbers, known: Mask, most: int = 0) -> Numbers:
    """The copy that is kept, for every sample that is not kept because of it.

    From the best sample to the worst, each is kept unless a kept one is within the distance. So what goes has a better
    copy that stays, and chains of pairs never join images that are far apart.

    Args:
        hashes: (N,) of the samples.
        priority: (N,) the sample with the largest is kept; of equals the first.
        known: (N,) which samples have a hash; the others are no copies.
        most: bits in which the hashes of copies may differ.

    Returns:
        (N,) number of the kept copy; -1 for samples that are kept, or have no hash.
    """
    numbers = np.flatnonzero(known)
    found = np.full(len(hashes), -1, dtype=np.int64)
    if not len(numbers):
        return found
    order = numbers[np.lexsort((-priority[numbers], hashes[numbers]))]
    ordered = hashes[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    best = order[first]
    kept = best[_dominating(ordered[first], best, priority, most)][np.cumsum(first) - 1]
    found[order] = np.where(kept == order, -1, kept)
    return found


def close_pairs(hashes: Hashes, most: int) -> tuple[Numbers, Numbers]:
    """All pairs of hashes within a distance, each once, the smaller place first.

    Two hashes of m bands that differ in d bits agree in at least m - d bands (multi-index hashing: Norouzi, Punjani
    and Fleet, CVPR 2012). So for every choice of m - d bands, hashes are sorted by these and compared where they agree.

    Args:
        hashes: (U,) all different.
        most: bits in which a pair may differ, at least 1.
    """
    bands = banding(len(hashes), most)
    edges = [64 * band // bands for band in range(bands + 1)]
    masks = [((1 << (high - low)) - 1) << low for low, high in pairwise(edges)]
    found = [np.empty(0, dtype=np.int64)]
    for chosen in combinations(masks, bands - most):
        keys = hashes & np.uint64(sum(chosen))
        order = np.argsort(keys)
        for one, other in _within_runs(keys[order], hashes[order], most):
            a, b = order[one], order[other]
            found.append(np.minimum(a, b) * len(hashes) + np.maximum(a, b))
    pairs = np.unique(np.concatenate(found))
    return pairs // len(hashes), pairs % len(hashes)


def banding(count: int, most: int) -> int:
    """The number of bands with which close pairs are found soonest, for hashes with independent bits.

    Args:
        count: how many hashes there are.
        most: bits in which a pair may differ.
    """

    def work(bands: int) -> float:
        compared = count * count / 2 / 2.0 ** (64 * (bands - most) / bands)
        return math.comb(bands, most) * (count * _SORTING + compared)

    return min(range(most + 1, most + 1 + _MORE_BANDS), key=work)


def _within_runs(keys: Hashes, hashes: Hashes, most: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Places of close pairs among hashes that are sorted by their keys and agree in them."""
    places, step = np.arange(len(keys)), 0
    while len(places):
        step += 1
        places = places[: np.searchsorted(places, len(keys) - step)]
        places = places[keys[places] == keys[places + step]]
        close = places[distance(hashes[places], hashes[places + step]) <= most]
        yield close, close + step


def _dominating(hashes: Hashes, best: Numbers, priority: Numbers, most: int) -> Numbers:
    """For each of U different hashes the one that is kept in its place: itself, or a better one within the distance."""
    kept_by = np.arange(len(hashes))
    if most == 0:
        return kept_by
    rank = np.empty(len(hashes), dtype=np.int64)
    rank[np.lexsort((best, -priority[best]))] = np.arange(len(hashes))
    one, other = close_pairs(hashes, most)
    swap = rank[one] > rank[other]
    better, worse = np.where(swap, other, one), np.where(swap, one, other)
    removed = _removed(better, worse, len(hashes))
    by_kept = ~removed[better] & removed[worse]
    better, worse = better[by_kept], worse[by_kept]
    order = np.lexsort((rank[better], worse))
    worse, first = np.unique(worse[order], return_index=True)
    kept_by[worse] = better[order][first]
    return kept_by


def _removed(better: Numbers, worse: Numbers, count: int) -> Mask:
    """What goes when each of `count` is kept unless a better neighbour is kept; found in rounds, best ones first."""
    removed = np.zeros(count, dtype=np.bool_)
    while len(worse):
        waiting = np.zeros(count, dtype=np.bool_)
        waiting[worse] = True
        # Whoever has no better neighbour left is kept, and its neighbours go.
        removed[worse[~waiting[better]]] = True
        left = ~removed[worse] & ~removed[better]
        better, worse = better[left], worse[left]
    return removed

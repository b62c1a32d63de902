"""Samples on both sides of every cut, with small pictures: those whose scores are nearest to the threshold."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from prx_scale.data.decode import decode
from prx_scale.data.filters.base import Caption
from prx_scale.data.filters.cuts import DUPLICATE, Floats, Mask, shown
from prx_scale.data.filters.duplicates import Numbers
from prx_scale.data.filters.phash import distance
from prx_scale.data.filters.plain import HASH, PIXELS
from prx_scale.data.filters.writing import Result
from prx_scale.data.samples import RawSample, Skipped
from prx_scale.data.shapes.hashing import mix
from reports.filter_data import Example, Examples

EACH = 6
"""Samples on either side of a cut, where there are few cuts."""
MOST = 72
"""Samples of all cuts."""
SIDES = (192, 160, 128, 96)
"""Longer side of a picture in pixels: the first with which all of them fit the budget."""
BUDGET = 1_000_000
"""Bytes of all pictures together."""
CAPTION = 90
_QUALITY = 80


def examples(result: Result, caption: Caption) -> tuple[Examples, ...]:
    """Samples that each cut only just removes, and that are only just kept; of copies, pairs.

    Args:
        result: of a filter.
        caption: which one is shown.
    """
    cuts = result.verdict.counts
    if not cuts:
        return ()
    each = max(min(EACH, MOST // (2 * len(cuts))), 1)
    chosen = [_chosen(result, place, each) for place in range(len(cuts))]
    pictures = _Pictures(result, caption, {int(n) for removed, kept in chosen for n in (*removed, *kept)})
    return tuple(_shown(result, place, *chosen[place], pictures) for place in range(len(cuts)))


def nearest(numbers: Numbers, gaps: Floats, most: int) -> Numbers:
    """Some of the samples that are nearest, by chance among those equally near, nearest first.

    Args:
        numbers: (n,) of samples.
        gaps: (n,) distance of each; nan is never near.
        most: how many.
    """
    known = ~np.isnan(gaps)
    numbers, gaps = numbers[known], gaps[known]
    if len(numbers) > most:
        near = gaps <= np.partition(gaps, most - 1)[most - 1]
        numbers, gaps = numbers[near], gaps[near]
    return numbers[np.lexsort((mix(numbers.astype(np.uint64)), gaps))][:most]


def _chosen(result: Result, place: int, each: int) -> tuple[Numbers, Numbers]:
    """Numbers of samples that a cut removes, and of kept ones."""
    verdict, cut = result.verdict, result.verdict.counts[place].cut
    if cut.column == DUPLICATE:
        return _pairs(result, place, each)
    if cut.of_text:
        gaps = np.zeros(len(verdict.keep))
    else:
        gaps = np.abs(result.scores.numbers(cut.column) - verdict.counts[place].number)
    return _near(verdict.removed[place], gaps, each), _near(verdict.keep, gaps, each)


def _near(mask: Mask, gaps: Floats, each: int) -> Numbers:
    numbers = np.flatnonzero(mask)
    return nearest(numbers, gaps[numbers], each)


def _pairs(result: Result, place: int, each: int) -> tuple[Numbers, Numbers]:
    """Copies that are removed, those furthest from what is kept first, and the kept ones."""
    copies = result.verdict.copies
    assert copies is not None
    removed = np.flatnonzero(result.verdict.removed[place] & (copies >= 0))
    hashes = result.scores.column(HASH).fill_null(0).to_numpy()
    apart = distance(hashes[removed], hashes[copies[removed]]).astype(np.float64)
    chosen = nearest(removed, -apart, each)
    return chosen, copies[chosen]


def _shown(result: Result, place: int, removed: Numbers, kept: Numbers, pictures: _Pictures) -> Examples:
    cut = result.verdict.counts[place].cut
    pairs, name = cut.column == DUPLICATE, shown(cut, result.verdict.counts[place].number)
    column = PIXELS if pairs else cut.column
    both = [(pictures.of(int(a), column), pictures.of(int(b), column)) for a, b in zip(removed, kept, strict=False)]
    if pairs:
        whole = [(a, b) for a, b in both if a is not None and b is not None]
        return Examples(cut=name, removed=tuple(a for a, _ in whole), kept=tuple(b for _, b in whole), pairs=True)
    sides = [[pictures.of(int(number), column) for number in side] for side in (removed, kept)]
    found = [tuple(each for each in side if each is not None) for side in sides]
    return Examples(cut=name, removed=found[0], kept=found[1])


class _Pictures:
    """Samples read once each, as pictures of one size."""

    def __init__(self, result: Result, caption: Caption, numbers: set[int]) -> None:
        self._result, self._caption = result, caption
        ordered = sorted(numbers)
        starts = result.scores.starts
        shards = np.searchsorted(starts, ordered, side="right") - 1
        wanted = [(int(shard), number - int(starts[shard])) for number, shard in zip(ordered, shards, strict=True)]
        items = result.source.fetch(wanted)
        self._samples = {n: item for n, item in zip(ordered, items, strict=True) if isinstance(item, RawSample)}
        self._scores: dict[str, Mapping[int, str]] = {}
        self._jpegs = self._drawn()

    def of(self, number: int, column: str) -> Example | None:
        """A sample with one of its scores; None if it cannot be read any more."""
        if number not in self._jpegs:
            return None
        jpeg, (width, height) = self._jpegs[number]
        sample = self._samples[number]
        caption = (self._caption.of(sample) or sample.label or "").replace("\n", " ")
        return Example(
            jpeg=jpeg,
            width=width,
            height=height,
            key=sample.key,
            caption=caption if len(caption) <= CAPTION else caption[: CAPTION - 1].rstrip() + "…",
            note=self._note(number, column),
        )

    def _note(self, number: int, column: str) -> str:
        if column not in self._scores:
            ordered = sorted(self._samples)
            values = self._result.scores.column(column).gather(ordered).to_list()
            self._scores[column] = {n: _words(column, value) for n, value in zip(ordered, values, strict=True)}
        return self._scores[column][number]

    def _drawn(self) -> dict[int, tuple[bytes, tuple[int, int]]]:
        images = {number: picture for number, sample in self._samples.items() if (picture := _picture(sample))}
        found: dict[int, tuple[bytes, tuple[int, int]]] = {}
        for side in SIDES:
            found = {number: _jpeg(image, side) for number, image in images.items()}
            if sum(len(jpeg) for jpeg, _ in found.values()) <= BUDGET:
                break
        return found


def _picture(sample: RawSample) -> Image.Image | None:
    pixels = decode(sample, at_least=(SIDES[0], SIDES[0]))
    if isinstance(pixels, Skipped):
        return None
    image = Image.fromarray(pixels)
    image.thumbnail((SIDES[0], SIDES[0]))
    return image


def _jpeg(image: Image.Image, side: int) -> tuple[bytes, tuple[int, int]]:
    small = image.copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue(), small.size


def _words(column: str, value: object) -> str:
    if value is None:
        return f"no {column}"
    if column == PIXELS and isinstance(value, int):
        return f"{value / 1e6:.2f} Mpx"
    return f"{column} {value:.4g}" if isinstance(value, float) else f"{column} {value}"

"""Aspect-ratio buckets: sizes of about the same number of image tokens, and which of them an image belongs to.

As all sizes of a list have about as many tokens, batches of every bucket have as many images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prx_scale.errors import InputError
from prx_scale.tables import bounded

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

PRX_STEP = 32
GRACE = 1e-9
"""So that limits such as 1 / 1.9 and 1.9 take in the same sizes both ways round."""
QWEN_IMAGE_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "9:16", "16:9", "1:3", "3:1")


@dataclass(frozen=True, kw_only=True)
class BucketTable:
    """[buckets]: the sizes that images are brought to."""

    rule: Literal["square", "prx", "qwen-image", "sd3"] = "square"
    """square: image_size x image_size alone. prx: every number of steps along one side, and along the other as many as
    keep within the square's tokens. qwen-image: one size for each of `ratios`, rounded. sd3: every number of steps
    along one side, and along the other what comes nearest to the square's pixels."""
    step: int = bounded(0, low=0)
    """Pixels between sizes; 0 is the rule's own: 32 for prx, a token's for qwen-image, a sixteenth of image_size, but
    no less than a token's, for sd3."""
    min_ratio: float = bounded(0.5, low=0.01, high=1)
    """Smallest width / height of prx and sd3."""
    max_ratio: float = bounded(2.0, low=1, high=100)
    """Largest."""
    ratios: tuple[str, ...] = QWEN_IMAGE_RATIOS
    """Width : height of qwen-image."""
    stretch: float = bounded(0.05, low=0, high=1)
    """An image whose ratio differs from its bucket's by no more than this share is stretched, others are cropped."""
    max_upscaling: float = bounded(4 / 3, low=1)
    """Images that would have to grow by more than this along a side are left out of a resolution."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A size in pixels."""

    height: int
    width: int

    @property
    def ratio(self) -> Fraction:
        """Width / height."""
        return Fraction(self.width, self.height)

    @property
    def name(self) -> str:
        """Height and width, as 160x352."""
        return f"{self.height}x{self.width}"

    def tokens(self, pixels: int) -> int:
        """Image tokens.

        Args:
            pixels: along one side of a token.
        """
        return (self.height // pixels) * (self.width // pixels)


def bucket_list(table: BucketTable, image_size: int, pixels: int, where: str = "[buckets]") -> tuple[Bucket, ...]:
    """The buckets of a resolution, from tall to wide; a bucket's number is its place.

    Args:
        table: the rule.
        image_size: S; all sizes have about S x S pixels.
        pixels: along one side of a token: downsampling x patch.
        where: file and table, for errors.

    Raises:
        InputError: the rule gives sizes that are not whole numbers of tokens, or none at all.
    """
    if image_size % pixels:
        below = image_size // pixels * pixels
        near = f"{below} and {below + pixels} are" if below else f"{pixels} is"
        raise InputError(
            f"{where}: image_size {image_size} is not a multiple of the {pixels} pixels of a token; {near}"
        )
    step = table.step or _own_step(table.rule, image_size, pixels)
    if step % pixels:
        raise InputError(f"{where} step: {step} is not a multiple of the {pixels} pixels of a token")
    if not (found := _by_rule(table, image_size, step, pixels, where)):
        raise InputError(
            f"{where}: no size in steps of {step} pixels has a ratio from {table.min_ratio:g} to {table.max_ratio:g}; "
            "allow others, or take a step that divides image_size"
        )
    return found


def _by_rule(table: BucketTable, image_size: int, step: int, pixels: int, where: str) -> tuple[Bucket, ...]:
    match table.rule:
        case "square":
            return (Bucket(height=image_size, width=image_size),)
        case "prx":
            if image_size % step:
                raise InputError(f"{where} step: {step} does not divide image_size {image_size}")
            return prx_buckets(image_size, step, table.min_ratio, table.max_ratio, pixels)
        case "qwen-image":
            if not table.ratios:
                raise InputError(f"{where} ratios: an empty list leaves no bucket")
            return ratio_buckets(image_size, [ratio_of(text, f"{where} ratios") for text in table.ratios], step)
        case "sd3":
            return near_area_buckets(image_size, step, table.min_ratio, table.max_ratio)


def _own_step(rule: str, image_size: int, pixels: int) -> int:
    if rule == "sd3":
        return max(image_size // (16 * pixels), 1) * pixels
    return PRX_STEP if rule == "prx" else pixels


def ratio_of(text: str, where: str) -> Fraction:
    """Width over height.

    Args:
        text: as 16:9.
        where: file, table and key, for errors.

    Raises:
        InputError: not two whole numbers above 0.
    """
    width, colon, height = text.partition(":")
    if not (colon and width.strip().isdecimal() and height.strip().isdecimal() and int(width) and int(height)):
        raise InputError(f'{where}: {text!r} is no ratio; write width:height, as "16:9"')
    return Fraction(int(width), int(height))


def prx_buckets(
    image_size: int, step: int, min_ratio: float = 0.5, max_ratio: float = 2.0, multiple: int = 16
) -> tuple[Bucket, ...]:
    """PRX's list: with g = image_size / step, w steps by floor(g^2 / w) for every w that the ratios allow, and turned.

    w runs from ceil(g sqrt(min_ratio)) to floor(g sqrt(max_ratio)), then the sides swap roles. No size has more tokens
    than the square; the outermost go a little beyond the ratios.

    Args:
        image_size: of the square.
        step: pixels; divides image_size.
        min_ratio: width / height.
        max_ratio: width / height.
        multiple: sizes that are not multiples of it are left out.
    """
    cells = (image_size // step) ** 2
    upright = _floored(cells, min_ratio, max_ratio)
    turned = ((height, width) for width, height in _floored(cells, 1 / max_ratio, 1 / min_ratio))
    sizes = (Bucket(height=h * step, width=w * step) for h, w in {*upright, *turned})
    return _one_a_ratio(size for size in sizes if size.height % multiple == 0 and size.width % multiple == 0)


def _floored(cells: int, low: float, high: float) -> Iterable[tuple[int, int]]:
    """(height, width) for every width between the bounds of width / height."""
    widths = range(math.ceil(math.sqrt(cells * low) - GRACE), math.floor(math.sqrt(cells * high) + GRACE) + 1)
    return ((cells // width, width) for width in widths if 0 < width <= cells)


def ratio_buckets(image_size: int, ratios: Iterable[Fraction], step: int = 16) -> tuple[Bucket, ...]:
    """Qwen-Image's list: for a ratio r, width sqrt(image_size^2 r) and height width / r, each rounded to the step.

    Args:
        image_size: of the square.
        ratios: width / height.
        step: pixels.
    """
    sizes: list[Bucket] = []
    for ratio in ratios:
        width = math.sqrt(image_size**2 * ratio)
        sizes.append(Bucket(height=_rounded(width / ratio, step), width=_rounded(width, step)))
    return _one_a_ratio(sizes)


def near_area_buckets(image_size: int, step: int, min_ratio: float = 0.5, max_ratio: float = 2.0) -> tuple[Bucket, ...]:
    """Sizes with height x width near image_size^2: for each multiple of the step, the other side rounded to the step.

    Args:
        image_size: of the square.
        step: pixels.
        min_ratio: width / height.
        max_ratio: width / height.
    """
    longest = math.ceil(image_size * math.sqrt(max(max_ratio, 1 / min_ratio)) / step) * step
    pairs = [(side, _rounded(image_size**2 / side, step)) for side in range(step, longest + 1, step)]
    sizes = [Bucket(height=h, width=w) for a, b in pairs for h, w in ((a, b), (b, a))]
    low, high = min_ratio * (1 - GRACE), max_ratio * (1 + GRACE)
    return _one_a_ratio(size for size in sizes if low <= size.ratio <= high)


def _rounded(side: float, step: int) -> int:
    return max(math.floor(side / step + 0.5), 1) * step


def _one_a_ratio(sizes: Iterable[Bucket]) -> tuple[Bucket, ...]:
    """From tall to wide; of several with the same ratio the one with the most pixels."""
    largest = {size.ratio: size for size in sorted(sizes, key=lambda size: size.height)}
    return tuple(largest[ratio] for ratio in sorted(largest))


def grid_side(buckets: Iterable[Bucket], pixels: int) -> int:
    """Tokens along the longest side of any bucket: how far positions must reach.

    Args:
        buckets: of all resolutions.
        pixels: along one side of a token.
    """
    return max(max(bucket.height, bucket.width) // pixels for bucket in buckets)


def assign(buckets: Sequence[Bucket], heights: ArrayLike, widths: ArrayLike) -> Numbers:
    """The bucket of every image: the one with the smallest |log(image's ratio / bucket's ratio)|.

    A tie goes to the squarer bucket, and between equals to the taller one, so turned images are in turned buckets. Only
    division, product and root are used, which are rounded alike on every machine.

    Args:
        buckets: from tall to wide, as `bucket_list` gives them.
        heights: (N,) pixels, above 0.
        widths: (N,) pixels, above 0.

    Returns:
        (N,) numbers of buckets.
    """
    tall, wide = np.asarray(heights, dtype=np.float64), np.asarray(widths, dtype=np.float64)
    longer = np.maximum(wide, tall) / np.minimum(wide, tall)
    as_wide = np.searchsorted(_boundaries([bucket.ratio for bucket in buckets]), longer)
    turned = np.searchsorted(_boundaries([1 / bucket.ratio for bucket in reversed(buckets)]), longer)
    return np.where(wide >= tall, as_wide, len(buckets) - 1 - turned).astype(np.int64)


def _boundaries(ratios: Iterable[Fraction]) -> Floats:
    """Geometric means of neighbours, ascending."""
    return np.array([_root(low * high) for low, high in itertools.pairwise(ratios)])


def _root(square: Fraction) -> float:
    """The square root, rounded once where it is rational, as the ratio of an image that ties is."""
    exact = Fraction(math.isqrt(square.numerator), math.isqrt(square.denominator))
    return float(exact) if exact**2 == square else math.sqrt(square)


def reaches(heights: ArrayLike, widths: ArrayLike, image_size: int, max_upscaling: float = 4 / 3) -> NDArray[np.bool_]:
    """Which images have the pixels for a resolution: no fewer than the square of image_size / max_upscaling.

    Args:
        heights: (N,) pixels.
        widths: (N,) pixels.
        image_size: of the resolution.
        max_upscaling: how much larger along a side they may have to become.
    """
    # A hundredth of a pixel of grace, so that 512 / 1.3333 does not refuse 384.
    side = image_size / max_upscaling - 0.01
    return np.asarray(heights, dtype=np.float64) * np.asarray(widths, dtype=np.float64) >= side**2


def highest_tier(heights: ArrayLike, widths: ArrayLike, tiers: Sequence[int], max_upscaling: float = 4 / 3) -> Numbers:
    """The highest resolution that every image reaches.

    Args:
        heights: (N,) pixels.
        widths: (N,) pixels.
        tiers: image sizes, ascending.
        max_upscaling: as for `reaches`.

    Returns:
        (N,) places in `tiers`, -1 where an image reaches none.
    """
    reached = np.stack([reaches(heights, widths, tier, max_upscaling) for tier in tiers])
    return np.count_nonzero(reached, axis=0) - np.ones(reached.shape[1:], dtype=np.int64)

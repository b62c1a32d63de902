"""How an image is brought to its bucket's size, and what the model is told about it."""

from __future__ import annotations

from dataclasses import dataclass

from prx_scale.data.buckets import Bucket


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Resize the image, then cut the target out of it. All pairs are (height, width) in pixels."""

    original: tuple[int, int]
    """Of the image, turned upright."""
    resized: tuple[int, int]
    corner: tuple[int, int]
    """Top and left of the cut in the resized image."""
    target: tuple[int, int]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the cut in the resized image, in Pillow's order."""
        (top, left), (height, width) = self.corner, self.target
        return left, top, left + width, top + height

    @property
    def conditioning(self) -> tuple[int, int, int, int, int, int]:
        """Original height and width, top and left of the cut, target height and width (Podell et al. 2023, 2.2)."""
        return (*self.original, *self.corner, *self.target)

    @property
    def upscaling(self) -> float:
        """How many times larger the image becomes, along the side where that is most."""
        return max(self.resized[0] / self.original[0], self.resized[1] / self.original[1])

    @property
    def kept(self) -> float:
        """Share of the image that is in the cut."""
        return self.target[0] * self.target[1] / (self.resized[0] * self.resized[1])


def frame(original: tuple[int, int], bucket: Bucket, stretch: float = 0.05) -> Framing:
    """The framing of an image for its bucket.

    Where the ratios differ by no more than `stretch`, both sides are brought to the bucket's and nothing is lost. Else
    the shorter side, measured by the bucket, is brought to size and the excess of the other is cut off evenly at both
    ends. Nothing is random: an image always has the same latents.

    Args:
        original: height and width of the image, above 0.
        bucket: the target.
        stretch: largest of ratio / bucket's ratio - 1, or the inverse, at which an image is stretched.
    """
    (height, width), target = original, (bucket.height, bucket.width)
    across, down = width * bucket.height, height * bucket.width
    if max(across, down) <= (1 + stretch) * min(across, down):
        return Framing(original=original, resized=target, corner=(0, 0), target=target)
    if across > down:
        resized = (bucket.height, max(_divided(across, height), bucket.width))
    else:
        resized = (max(_divided(down, width), bucket.height), bucket.width)
    corner = ((resized[0] - bucket.height) // 2, (resized[1] - bucket.width) // 2)
    return Framing(original=original, resized=resized, corner=corner, target=target)


def uncropped(size: tuple[int, int]) -> tuple[int, int, int, int, int, int]:
    """What the model is told when it samples: nothing was resized and nothing cut off.

    Args:
        size: height and width of what is to be sampled.
    """
    return (*size, 0, 0, *size)


def _divided(number: int, by: int) -> int:
    """Rounded to the nearest, halves up."""
    return (2 * number + by) // (2 * by)

"""How latents are brought to about zero mean and unit variance: published numbers, or measured ones. Needs no torch.

A backbone sees (z - shift) * scale, with one shift and scale for all channels or one for each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prx_scale.errors import InputError
from prx_scale.models.encoders.registry import ImageSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LatentScale:
    """Shift and scale of a latent space."""

    shift: tuple[float, ...] = (0.0,)
    """One, or one for each channel."""
    scale: tuple[float, ...] = (1.0,)
    origin: str = "published"
    """Where they come from: published, batch norm, measured."""

    def normalise(self, latents: Tensor) -> Tensor:
        """From the autoencoder's latents to the backbone's.

        Args:
            latents: (B, C, h, w).
        """
        return (latents - _as_channels(self.shift, latents)) * _as_channels(self.scale, latents)

    def restore(self, latents: Tensor) -> Tensor:
        """From the backbone's latents to the autoencoder's.

        Args:
            latents: (B, C, h, w).
        """
        return latents / _as_channels(self.scale, latents) + _as_channels(self.shift, latents)

    def to_json(self) -> dict[str, Any]:
        """As it lies beside a store."""
        return {"shift": list(self.shift), "scale": list(self.scale), "origin": self.origin}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], where: str) -> LatentScale:
        """The inverse of `to_json`.

        Args:
            content: as it was read.
            where: file and key, for errors.

        Raises:
            InputError: a number is missing, or a scale is not above 0.
        """
        try:
            shift, scale = (tuple(float(each) for each in content[key]) for key in ("shift", "scale"))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: not a shift and scale of latents ({error})") from error
        if not all(map(math.isfinite, shift)) or not all(0 < each < math.inf for each in scale):
            raise InputError(f"{where}: shift and scale are finite numbers, and a scale is above 0")
        return cls(shift=shift, scale=scale, origin=str(content.get("origin", "")))


def published_scale(spec: ImageSpec) -> LatentScale | None:
    """How latents are normalised by what is published with an autoencoder; None where that has to be measured.

    Args:
        spec: of the autoencoder, with the numbers of its weights.
    """
    if spec.normalisation == "none":
        return LatentScale()
    if spec.scale is None:
        return None
    origin = "batch norm" if spec.normalisation == "batch norm" else "published"
    return LatentScale(shift=_each(spec.shift or 0.0), scale=_each(spec.scale), origin=origin)


def _each(values: float | tuple[float, ...]) -> tuple[float, ...]:
    return values if isinstance(values, tuple) else (values,)


def _as_channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None]


@dataclass(frozen=True, kw_only=True)
class LatentStatistics:
    """Count, mean and sum of squared deviations of each channel, over every place of every image.

    Parts that several processes measured add up to that of the whole (Chan et al. 1983).
    """

    count: int = 0
    mean: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()

    def __add__(self, other: LatentStatistics) -> LatentStatistics:
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        apart = [theirs - ours for ours, theirs in zip(self.mean, other.mean, strict=True)]
        mean = tuple(ours + gap * other.count / count for ours, gap in zip(self.mean, apart, strict=True))
        between = self.count * other.count / count
        both = zip(self.squares, other.squares, apart, strict=True)
        return LatentStatistics(
            count=count, mean=mean, squares=tuple(ours + theirs + gap**2 * between for ours, theirs, gap in both)
        )

    def scale(self) -> LatentScale:
        """What makes every channel's mean zero and its variance one.

        Raises:
            InputError: nothing was measured, or a channel does not vary.
        """
        if not self.count:
            raise InputError("no latents were measured; their statistics need at least one image")
        variances = [each / self.count for each in self.squares]
        for channel, variance in enumerate(variances):
            if not variance > 0:
                raise InputError(f"channel {channel} of the latents has variance {variance}; it cannot be scaled to 1")
        return LatentScale(shift=self.mean, scale=tuple(each**-0.5 for each in variances), origin="measured")

    def to_json(self) -> dict[str, Any]:
        """As it lies beside a store."""
        return {"count": self.count, "mean": list(self.mean), "squares": list(self.squares)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], where: str) -> LatentStatistics:
        """The inverse of `to_json`.

        Args:
            content: as it was read.
            where: file and key, for errors.

        Raises:
            InputError: something is missing.
        """
        try:
            mean, squares = (tuple(float(each) for each in content[key]) for key in ("mean", "squares"))
            return cls(count=int(content["count"]), mean=mean, squares=squares)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: not statistics of latents ({error})") from error

"""What all frozen image encoders have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from prx_scale.errors import InputError
from prx_scale.models.encoders.identity import IMAGE_RECIPE, EncoderIdentity, content_of
from prx_scale.models.encoders.image.moments import Moments
from prx_scale.models.encoders.image.normalisation import LatentScale, LatentStatistics
from prx_scale.models.encoders.locating import Located
from prx_scale.models.encoders.registry import ImageSpec


def to_pixels(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Pixels in [-1, 1].

    Args:
        images: (B, 3, H, W), bytes from 0 to 255, or numbers that are in [-1, 1] already.
        dtype: of the result.

    Raises:
        InputError: another shape.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"images of shape {tuple(images.shape)}; encoders take (B, 3, height, width)")
    if images.dtype == torch.uint8:
        return (images.float() / 127.5 - 1).to(dtype)
    return images.to(dtype)


class FrozenImage(ABC):
    """A frozen autoencoder of images."""

    def __init__(self, *, spec: ImageSpec, scale: LatentScale, dtype: torch.dtype, device: torch.device) -> None:
        """Take what is common.

        Args:
            spec: with the sizes of the weights.
            scale: from its latents to the backbone's.
            dtype: that it computes in.
            device: that it runs on.
        """
        self.spec, self.scale, self.dtype, self.device = spec, scale, dtype, device

    def encode(self, images: Tensor) -> Moments:
        """Moments of latents, float32, on the encoder's device.

        Args:
            images: (B, 3, H, W), bytes from 0 to 255, or numbers in [-1, 1]; sides are multiples of the downsampling.

        Raises:
            InputError: another shape.
        """
        pixels = to_pixels(images.to(self.device), self.dtype)
        step = self.spec.downsampling
        if any(side < step or side % step for side in pixels.shape[2:]):
            height, width = pixels.shape[2:]
            raise InputError(f"images of {height} x {width}: sides are multiples of {step} for '{self.spec.name}'")
        with torch.no_grad():
            return self._encode(pixels)

    def latents(self, moments: Moments, eps: Tensor | None = None) -> Tensor:
        """What a backbone is trained on, (B, C, h, w), float32.

        Args:
            moments: of `encode`, or of a store.
            eps: standard normal noise of that shape; None takes the mean.
        """
        return self.scale.normalise(moments.sample(eps))

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), float32, about in [-1, 1].

        Args:
            latents: (B, C, h, w) of a backbone.
        """
        with torch.no_grad():
            return self._decode(self.scale.restore(latents.to(self.device).float()).to(self.dtype)).float()

    def settings(self) -> dict[str, Any]:
        """Settings of preprocessing that the moments depend on. How latents are normalised is not among them."""
        return {"recipe": IMAGE_RECIPE, "pixels": "[-1, 1]", "dtype": str(self.dtype).removeprefix("torch.")}

    @abstractmethod
    def identity(self) -> EncoderIdentity:
        """What its moments depend on."""

    @abstractmethod
    def _encode(self, pixels: Tensor) -> Moments: ...

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor: ...


class PretrainedImage(FrozenImage):
    """An autoencoder of diffusers."""

    def __init__(self, *, spec: ImageSpec, located: Located, model: Any, scale: LatentScale) -> None:
        """Bring together what was loaded.

        Args:
            spec: with the sizes of the weights.
            located: where they were.
            model: frozen.
            scale: from its latents to the backbone's.
        """
        super().__init__(spec=spec, scale=scale, dtype=model.dtype, device=model.device)
        self.located, self.model = located, model

    def identity(self) -> EncoderIdentity:
        """What its moments depend on."""
        spec = self.spec
        return EncoderIdentity(name=spec.name, kind=spec.kind, files=content_of(self.located), settings=self.settings())


def statistics_of(moments: Moments) -> LatentStatistics:
    """Mean and variance of each channel of the latents that would be sampled from moments; no noise is drawn.

    The variance of a sampled latent is that of the mean, and the mean of the squared standard deviation.

    Args:
        moments: (B, C, h, w).
    """
    mean = moments.mean.double()
    count = mean[:, 0].numel()
    centre = mean.mean(dim=(0, 2, 3))
    squares = (mean - centre[:, None, None]).square().sum(dim=(0, 2, 3))
    if moments.std is not None:
        squares = squares + moments.std.double().square().sum(dim=(0, 2, 3))
    return LatentStatistics(count=count, mean=tuple(centre.tolist()), squares=tuple(squares.tolist()))

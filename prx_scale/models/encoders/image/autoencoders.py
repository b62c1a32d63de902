"""The frozen autoencoders: KL, FLUX.2's, DC-AE, and none."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from prx_scale.models.encoders.identity import EncoderIdentity
from prx_scale.models.encoders.image.base import FrozenImage, PretrainedImage
from prx_scale.models.encoders.image.moments import Moments
from prx_scale.models.encoders.image.normalisation import LatentScale
from prx_scale.models.encoders.registry import ImageSpec

SIDE = 2
"""FLUX.2's latents along a side of a patch."""


class KL(PretrainedImage):
    """Latents are normal, of a mean and a standard deviation (Rombach et al. 2022)."""

    def _encode(self, pixels: Tensor) -> Moments:
        found = self.model.encode(pixels).latent_dist
        # The exponential in float32, whatever the encoder computes in: it is stored and sampled from.
        return Moments(mean=found.mean.float(), std=(0.5 * found.logvar.float()).exp())

    def _decode(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents).sample


class Flux2(KL):
    """FLUX.2's: patches of 2 x 2 of its latents go onto channels, and each of those has stored statistics.

    Channel 4 c + 2 i + j of a patch is channel c at row i and column j of it.
    """

    def _encode(self, pixels: Tensor) -> Moments:
        found = super()._encode(pixels)
        std = None if found.std is None else F.pixel_unshuffle(found.std, SIDE)
        return Moments(mean=F.pixel_unshuffle(found.mean, SIDE), std=std)

    def _decode(self, latents: Tensor) -> Tensor:
        return super()._decode(F.pixel_shuffle(latents, SIDE))


class DC(PretrainedImage):
    """The deep-compression autoencoder, which is deterministic (Chen et al. 2024)."""

    def _encode(self, pixels: Tensor) -> Moments:
        return Moments(mean=self.model.encode(pixels).latent.float())

    def _decode(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents).sample


class Pixels(FrozenImage):
    """No encoder: pixels in [-1, 1] are the latents."""

    def __init__(self, *, spec: ImageSpec, device: torch.device | str = "cpu") -> None:
        """Take a recipe.

        Args:
            spec: pixels.
            device: that latents are on.
        """
        super().__init__(spec=spec, scale=LatentScale(), dtype=torch.float32, device=torch.device(device))

    def identity(self) -> EncoderIdentity:
        """What its latents depend on."""
        return EncoderIdentity(name=self.spec.name, kind=self.spec.kind, settings=self.settings())

    def _encode(self, pixels: Tensor) -> Moments:
        return Moments(mean=pixels)

    def _decode(self, latents: Tensor) -> Tensor:
        return latents

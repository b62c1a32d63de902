"""What image encoders give: mean and standard deviation of latents, so that they can be sampled later."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Of B images, as the encoder gives them, before normalisation."""

    mean: Tensor
    """(B, C, h, w)."""
    std: Tensor | None = None
    """The same shape; None where the encoder is deterministic."""

    def __len__(self) -> int:
        return len(self.mean)

    def sample(self, eps: Tensor | None = None) -> Tensor:
        """Latents (B, C, h, w), float32: mean + std eps.

        Args:
            eps: standard normal noise of that shape, drawn by the caller by the sample's name, so that a latent is the
                same on every restart; None is the mean.
        """
        mean = self.mean.float()
        return mean if eps is None or self.std is None else torch.addcmul(mean, self.std.float(), eps.to(mean))

    def on_channels(self) -> Tensor:
        """One tensor as it is stored: mean, and behind it std, (B, 2C, h, w); or (B, C, h, w) without std."""
        return self.mean if self.std is None else torch.cat([self.mean, self.std], dim=1)

    def to(self, device: torch.device | str) -> Moments:
        """The same on another device.

        Args:
            device: cpu, cuda, cuda:1 ...
        """
        return Moments(mean=self.mean.to(device), std=None if self.std is None else self.std.to(device))


def from_channels(stored: Tensor, channels: int) -> Moments:
    """The inverse of `on_channels`.

    Args:
        stored: (B, C, h, w), or (B, 2C, h, w) with the standard deviation.
        channels: C.
    """
    if stored.shape[1] == channels:
        return Moments(mean=stored)
    mean, std = stored.split(channels, dim=1)
    return Moments(mean=mean, std=std)

"""Image encoders by name, from a folder or the hub."""

from __future__ import annotations

from pathlib import Path

import torch

from prx_scale.errors import InputError
from prx_scale.models.encoders.declared import CONFIG, check_image
from prx_scale.models.encoders.image.autoencoders import DC, KL, Flux2, Pixels
from prx_scale.models.encoders.image.base import FrozenImage
from prx_scale.models.encoders.image.normalisation import LatentScale, published_scale
from prx_scale.models.encoders.loading import load_frozen
from prx_scale.models.encoders.locating import locate
from prx_scale.models.encoders.registry import ImageSpec, image_spec


def load_image(
    name: str | ImageSpec,
    source: str = "",
    *,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    scale: LatentScale | None = None,
) -> FrozenImage:
    """Load a frozen image encoder.

    Args:
        name: in the registry; or a recipe, as `sized_image` makes it for weights of other sizes.
        source: folder, or hub id; "" is the registry's.
        dtype: of weights and computation; pixels stay float32.
        device: that it runs on.
        scale: from its latents to the backbone's, as measured; None is the published one.

    Raises:
        InputError: an unknown name, no such folder, or weights of other sizes.
    """
    spec = image_spec(name)
    if spec.kind == "pixels":
        return Pixels(spec=spec, device=device)
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2

    located = locate(spec, source)
    spec = check_image(spec, located.model)
    match spec.kind:
        case "kl":
            ours, theirs = KL, AutoencoderKL
        case "flux2":
            ours, theirs = Flux2, AutoencoderKLFlux2
        case _:
            ours, theirs = DC, AutoencoderDC
    scale = scale or _published(spec, located.model)
    model = load_frozen(theirs, located.model, dtype=dtype, device=device)
    return ours(spec=spec, located=located, model=model, scale=scale)


def _published(spec: ImageSpec, folder: Path) -> LatentScale:
    if found := published_scale(spec):
        return found
    raise InputError(
        f"{folder / CONFIG}: scaling_factor: missing, and '{spec.name}' has none of its own; measure one, or add it"
    )

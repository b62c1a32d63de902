"""Image encoders by name, from a folder or the hub."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from prx_scale.errors import InputError
from prx_scale.models.encoders.declared import CONFIG, check_image, read_config
from prx_scale.models.encoders.identity import weight_files
from prx_scale.models.encoders.image.autoencoders import DC, KL, Flux2, Pixels
from prx_scale.models.encoders.image.base import FrozenImage
from prx_scale.models.encoders.image.normalisation import LatentScale
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
    model = load_frozen(theirs, located.model, dtype=dtype, device=device)
    return ours(spec=spec, located=located, model=model, scale=scale or published_scale(spec, located.model))


def published_scale(spec: ImageSpec, folder: Path) -> LatentScale:
    """The shift and scale that come with an autoencoder's weights.

    Args:
        spec: with the numbers of its config.json.
        folder: of the weights; FLUX.2's has its statistics among them.

    Raises:
        InputError: they are not there.
    """
    if spec.normalisation != "batch norm":
        if spec.scale is None:
            raise InputError(
                f"{folder / CONFIG}: scaling_factor: missing, and '{spec.name}' has none of its own; "
                "measure one, or add it"
            )
        return LatentScale(shift=(spec.shift or 0.0,), scale=(spec.scale,))
    # Read from the file: a model in bf16 has rounded them.
    mean, variance = (_tensor(folder, f"bn.running_{name}").double() for name in ("mean", "var"))
    deviation = (variance + read_config(folder).get("batch_norm_eps", 1e-4)).sqrt()
    return LatentScale(shift=tuple(mean.tolist()), scale=tuple((1 / deviation).tolist()), origin="batch norm")


def _tensor(folder: Path, name: str) -> Tensor:
    from safetensors import safe_open

    for file in weight_files(folder):
        if file.suffix != ".safetensors":
            raise InputError(f"{file}: statistics of latents are read from safetensors files only")
        with safe_open(file, framework="pt") as content:
            if name in content.keys():  # noqa: SIM118, it is no mapping
                return content.get_tensor(name)
    raise InputError(f"{folder}: {name} is not among its weights; latents cannot be normalised without it")

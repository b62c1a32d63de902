"""What a folder says of the encoder in it before weights are loaded: sizes, scale and shift. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from prx_scale.errors import InputError
from prx_scale.models.encoders.batchnorm import batch_norm_scale
from prx_scale.models.encoders.registry import ImageKind, ImageSpec, TextKind, TextSpec

CONFIG = "config.json"
Config = Mapping[str, Any]

_TEXT_TYPES: Mapping[TextKind, tuple[str, ...]] = {
    "clip": ("clip", "clip_text_model"),
    "t5": ("t5",),
    "t5gemma": ("t5gemma",),
    "gemma": ("gemma", "gemma2", "gemma3_text"),
    "qwen2.5-vl": ("qwen2_5_vl",),
}
"""model_type, in transformers' words."""
_IMAGE_CLASSES: Mapping[ImageKind, str] = {"kl": "AutoencoderKL", "flux2": "AutoencoderKLFlux2", "dc": "AutoencoderDC"}
"""_class_name, in diffusers' words."""


def read_config(folder: Path) -> Config:
    """A folder's config.json.

    Args:
        folder: of an encoder's weights.

    Raises:
        InputError: there is none, or it is no JSON object.
    """
    file = folder / CONFIG
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: not a JSON object")
    return cast("Config", content)


def sized_text(spec: TextSpec, folder: Path) -> TextSpec:
    """The same recipe with the width and pooled width of the weights in a folder.

    Args:
        spec: the recipe.
        folder: of weights of its kind.

    Raises:
        InputError: the folder has no config.json, or that of another kind of model.
    """
    config, file = read_config(folder), folder / CONFIG
    kind = config.get("model_type")
    if kind not in _TEXT_TYPES[spec.kind]:
        raise InputError(f"{file}: model_type: {kind!r}; '{spec.name}' takes {' or '.join(_TEXT_TYPES[spec.kind])}")
    match spec.kind:
        case "clip":
            return _sized_clip(spec, config, file)
        case "t5":
            width = _number(config, "d_model", file)
        case "t5gemma":
            width = _number(_table(config, "encoder", file), "hidden_size", file)
        case _:
            width = _number(config.get("text_config") or config, "hidden_size", file)
    return replace(spec, width=width)


def _sized_clip(spec: TextSpec, config: Config, file: Path) -> TextSpec:
    # A whole CLIP keeps the projection of both towers outside of that of the text.
    text = config.get("text_config") or config
    width = _number(text, "hidden_size", file)
    positions = text.get("max_position_embeddings", spec.tokens)
    if positions < spec.tokens:
        raise InputError(f"{file}: max_position_embeddings: {positions}, fewer than the {spec.tokens} of '{spec.name}'")
    projection = config.get("projection_dim", text.get("projection_dim"))
    pooled = _number({"projection_dim": projection}, "projection_dim", file) if spec.projected else width
    return replace(spec, width=width, pooled=pooled)


def sized_image(spec: ImageSpec, folder: Path) -> ImageSpec:
    """The same recipe with channels, downsampling, and scale and shift where they are said, of the weights in a folder.

    Args:
        spec: the recipe.
        folder: of weights of its kind.

    Raises:
        InputError: the folder has no config.json, or that of another kind of model.
    """
    config, file = read_config(folder), folder / CONFIG
    name = config.get("_class_name")
    if name != _IMAGE_CLASSES[spec.kind]:
        raise InputError(f"{file}: _class_name: {name!r}; '{spec.name}' takes {_IMAGE_CLASSES[spec.kind]}")
    blocks = config.get("encoder_block_out_channels" if spec.kind == "dc" else "block_out_channels")
    if not isinstance(blocks, list) or not blocks:
        raise InputError(f"{file}: the list of channels of its blocks is missing")
    channels, downsampling = _number(config, "latent_channels", file), 2 ** (len(blocks) - 1)
    if spec.kind == "flux2":
        channels, downsampling = 4 * channels, 2 * downsampling
        shift, scale = batch_norm_scale(folder, config, file, channels)
        return replace(spec, channels=channels, downsampling=downsampling, shift=shift, scale=scale)
    return _scaled(replace(spec, channels=channels, downsampling=downsampling), config, file)


def _scaled(spec: ImageSpec, config: Config, file: Path) -> ImageSpec:
    scale = config.get("scaling_factor")
    if scale is None:
        # Old folders leave it out. diffusers then takes 0.18215, right for the one that it was made for and no other.
        return spec
    if not isinstance(scale, int | float) or scale <= 0:
        raise InputError(f"{file}: scaling_factor: {scale!r}; a number above 0")
    return replace(spec, scale=float(scale), shift=float(config.get("shift_factor") or 0))


def check_text(spec: TextSpec, folder: Path) -> TextSpec:
    """Whether a folder holds an encoder of the sizes that its recipe names.

    Args:
        spec: the recipe.
        folder: of the weights.

    Raises:
        InputError: names the first size that differs.
    """
    found = sized_text(spec, folder)
    _same(spec, found, ("width", "pooled"), folder)
    return found


def check_image(spec: ImageSpec, folder: Path) -> ImageSpec:
    """Whether a folder holds an autoencoder of the sizes that its recipe names.

    Args:
        spec: the recipe.
        folder: of the weights.

    Returns:
        The recipe, with scale and shift from the folder where it leaves them open.

    Raises:
        InputError: names the first size that differs.
    """
    found = sized_image(spec, folder)
    _same(spec, found, ("channels", "downsampling", "scale", "shift"), folder)
    return found


def _same(spec: TextSpec | ImageSpec, found: TextSpec | ImageSpec, names: tuple[str, ...], folder: Path) -> None:
    for name in names:
        wanted, has = getattr(spec, name), getattr(found, name)
        if wanted is None or wanted == has:
            continue
        if isinstance(wanted, tuple):
            raise InputError(f"{folder}: {name} by channel, of its weights' statistics, is not that of '{spec.name}'")
        raise InputError(f"{folder / CONFIG}: {name} is {has}, that of '{spec.name}' {wanted}")


def _table(config: Config, key: str, file: Path) -> Config:
    value = config.get(key)
    if not isinstance(value, dict):
        raise InputError(f"{file}: {key}: missing")
    return cast("Config", value)


def _number(config: Config, key: str, file: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{file}: {key}: {value!r}; a whole number above 0")
    return value

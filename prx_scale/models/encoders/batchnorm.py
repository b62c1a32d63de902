"""The statistics of latents that FLUX.2's autoencoder has among its weights, as shift and scale. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prx_scale.errors import InputError
from prx_scale.models.convert.headers import Described, read_header
from prx_scale.models.encoders.weightfiles import weight_files

Channels = tuple[float, ...]

_EPSILON = 1e-4
"""diffusers' batch_norm_eps, where config.json leaves it out."""
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def batch_norm_scale(folder: Path, config: Mapping[str, Any], file: Path, channels: int) -> tuple[Channels, Channels]:
    """Shift and scale by channel: the running mean, and (running variance + epsilon)^(-1/2) (Ioffe & Szegedy 2015).

    They are those of the file, not of the loaded model, which rounds them where it computes in bf16.

    Args:
        folder: of the weights.
        config: content of its config.json.
        file: config.json, for errors.
        channels: of the latents.

    Raises:
        InputError: a statistic is missing, has another shape, or is not finite; or a variance is negative.
    """
    epsilon = config.get("batch_norm_eps", _EPSILON)
    if not isinstance(epsilon, int | float) or not 0 < epsilon < math.inf:
        raise InputError(f"{file}: batch_norm_eps: {epsilon!r}; a number above 0")
    mean = _statistic(folder, "bn.running_mean", channels, least=-math.inf)
    variance = _statistic(folder, "bn.running_var", channels, least=0)
    return mean, tuple(1 / math.sqrt(each + epsilon) for each in variance)


def _statistic(folder: Path, name: str, channels: int, least: float) -> Channels:
    found = _find(folder, name)
    if found.shape != (channels,):
        raise InputError(
            f"{found.file}: {name}: of shape {list(found.shape)}; one number for each of {channels} channels"
        )
    values = _read(found, name)
    for channel, value in enumerate(values):
        if not (math.isfinite(value) and value >= least):
            bound = "" if least == -math.inf else f", at least {least:g}"
            raise InputError(f"{found.file}: {name}: {value} at channel {channel}; a finite number{bound}")
    return values


def _find(folder: Path, name: str) -> Described:
    files = weight_files(folder)
    for file in files:
        if file.suffix != ".safetensors":
            raise InputError(f"{file}: {name} is read from safetensors files only; save the weights as one")
        if found := read_header(file).get(name):
            return found
    where = files[0] if len(files) == 1 else folder
    raise InputError(f"{where}: {name}: missing; latents cannot be normalised without it")


def _read(described: Described, name: str) -> Channels:
    file, kind = described.file, described.dtype
    if kind not in _TYPES:
        raise InputError(f"{file}: {name}: of type {kind}; statistics are {', '.join(_TYPES)}")
    dtype = np.dtype(_TYPES[kind])
    try:
        values = np.fromfile(file, dtype, math.prod(described.shape), offset=described.start)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    if kind == "BF16":
        # The upper half of a float32.
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return tuple(values.astype(np.float64).tolist())

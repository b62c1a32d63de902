"""How beautiful an image is said to be: LAION's predictors, linear heads over CLIP's image embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prx_scale.errors import InputError

LAYERS = ("layers.0", "layers.2", "layers.4", "layers.6", "layers.7")
"""Of the improved predictor: 768-1024-128-64-16-1, dropout between them and nothing else."""
LINEAR = ("weight", "bias")
"""Of the first predictor: one layer."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """An affine function of an embedding of length 1."""

    weight: Floats
    """(W,)"""
    bias: float

    def __call__(self, embeddings: Floats) -> Floats:
        """Scores of embeddings, about 1 to 10.

        Args:
            embeddings: (B, W), each of length 1.
        """
        return embeddings @ self.weight + self.bias


def read_head(path: Path, width: int) -> Head:
    """Read a predictor.

    Args:
        path: a .safetensors file, or the .pth file that was published; nothing is unpickled.
        width: of the embeddings that it will be given.

    Raises:
        InputError: not a predictor, or of embeddings of another width.
    """
    from prx_scale.models.convert.sources import open_source

    source = open_source(path)
    tensors = {
        name: source.read(name).double().numpy() if len(shape) else np.empty(0) for name, shape in source.shapes.items()
    }
    if set(tensors) == set(LINEAR):
        head = folded([(tensors["weight"], tensors["bias"])], path)
    else:
        head = folded(_layers(tensors, path), path)
    if len(head.weight) != width:
        raise InputError(
            f"{path}: scores embeddings of {len(head.weight)} numbers, and the CLIP model gives {width}; LAION's "
            "predictors go with openai/clip-vit-large-patch14, which gives 768"
        )
    return head


def folded(layers: list[tuple[Floats, Floats]], path: Path) -> Head:
    """Linear layers without anything between them as one.

    Args:
        layers: weight (out, in) and bias (out,) of each, from the first to the last.
        path: for messages.

    Raises:
        InputError: they do not follow each other, or give more than one number.
    """
    weight, bias = layers[0]
    for following, its_bias in layers[1:]:
        if following.shape[1] != weight.shape[0]:
            raise InputError(f"{path}: layers of {weight.shape[0]} and {following.shape[1]} do not follow each other")
        weight, bias = following @ weight, following @ bias + its_bias
    if weight.shape[0] != 1:
        raise InputError(f"{path}: gives {weight.shape[0]} numbers; a score is one")
    return Head(weight=weight[0], bias=float(bias[0]))


def _layers(tensors: Mapping[str, Floats], path: Path) -> list[tuple[Floats, Floats]]:
    wanted = {f"{layer}.{part}" for layer in LAYERS for part in LINEAR}
    if set(tensors) != wanted:
        missing, others = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted)
        told = f"lacks {missing[0]}" if missing else f"has {others[0]} too"
        raise InputError(
            f"{path}: not a predictor of LAION's: {told}; right are {LAYERS[0]}.weight to {LAYERS[-1]}.bias, or weight "
            "and bias"
        )
    pairs = [(tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]) for layer in LAYERS]
    for layer, (weight, bias) in zip(LAYERS, pairs, strict=True):
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise InputError(f"{path}: {layer}: weight {weight.shape} and bias {bias.shape} are no linear layer")
    return pairs

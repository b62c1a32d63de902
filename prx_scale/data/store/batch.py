"""A batch of encoded samples: what a store gives, and what producers give that encode on the fly. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.buckets import Bucket
from prx_scale.data.store.storage import Packed, Storage

Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class States:
    """Text states of one encoder for B captions."""

    tokens: Packed | None
    """(B, L, D); None where only pooled states are kept."""
    pooled: Packed | None
    """(B, P); None where the encoder gives none."""
    lengths: NDArray[np.int32] | None
    """(B,) real tokens of each caption, zeros behind them; None where the encoder reads padding like any token."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedBatch:
    """B samples of one bucket."""

    numbers: Numbers
    """(B,) in the data: what names a sample."""
    bucket: Bucket
    latents: Packed
    """(B, 2C, h, w) mean and behind it standard deviation, before normalisation; (B, C, h, w) of what gives none."""
    conditioning: NDArray[np.int32]
    """(B, 6) original height and width, top and left of the cut, target height and width."""
    captions: NDArray[np.int32]
    """(B,) which of the kinds of captions the states are of; -1 is the empty caption."""
    states: Mapping[str, States]
    """By text encoder."""

    def __len__(self) -> int:
        return len(self.numbers)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it by name, as it lies in memory."""
        found: dict[str, NDArray[Any]] = {
            "numbers": self.numbers,
            "conditioning": self.conditioning,
            "captions": self.captions,
        }
        packed: dict[str, Packed | None] = {"latents": self.latents}
        for name, states in self.states.items():
            packed |= {f"{name}.tokens": states.tokens, f"{name}.pooled": states.pooled}
            if states.lengths is not None:
                found[f"{name}.lengths"] = states.lengths
        for name, each in packed.items():
            if each is not None:
                found[name] = each.bits
                if each.exponents is not None:
                    found[f"{name}.exponents"] = each.exponents
        return found


def from_arrays(arrays: Mapping[str, NDArray[Any]], bucket: Bucket, latents: Storage, states: Storage) -> EncodedBatch:
    """The inverse of `EncodedBatch.arrays`.

    Args:
        arrays: by name.
        bucket: of the samples.
        latents: number type of the latents.
        states: of the text states.
    """

    def packed(name: str, storage: Storage) -> Packed | None:
        bits = arrays.get(name)
        return None if bits is None else Packed(bits=bits, storage=storage, exponents=arrays.get(f"{name}.exponents"))

    encoders = [name.removesuffix(end) for name in arrays for end in (".tokens", ".pooled") if name.endswith(end)]
    found = packed("latents", latents)
    assert found is not None
    return EncodedBatch(
        numbers=arrays["numbers"],
        bucket=bucket,
        latents=found,
        conditioning=arrays["conditioning"],
        captions=arrays["captions"],
        states={
            name: States(
                tokens=packed(f"{name}.tokens", states),
                pooled=packed(f"{name}.pooled", states),
                lengths=arrays.get(f"{name}.lengths"),
            )
            for name in dict.fromkeys(encoders)
        },
    )

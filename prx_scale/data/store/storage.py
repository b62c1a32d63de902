"""Number types of stored latents and text states: bf16, fp16, and fp8 with an exponent for each row. Needs no torch.

numpy knows neither bf16 nor fp8, so their bits are held as whole numbers until torch takes them over
(:mod:`prx_scale.data.store.packing`).

fp8 is e4m3: values of a row (a token, a pooled state, a channel of an image) are divided by a power of two that brings
the largest to at most 448, and the power is kept beside them. Dividing by it rounds nothing, so a stored value differs
from the true one by at most 1/16, and a value read back fits into bf16 exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

Storage = Literal["bf16", "fp16", "fp8"]

CODES: dict[Storage, str] = {"bf16": "BF16", "fp16": "F16", "fp8": "F8_E4M3"}
"""As safetensors names them."""
BITS: dict[Storage, DTypeLike] = {"bf16": np.uint16, "fp16": np.uint16, "fp8": np.uint8}
LARGEST = 448.0
"""Of e4m3."""

Bits = NDArray[np.unsignedinteger[Any]]
Exponents = NDArray[np.int8]


def bytes_of(storage: Storage) -> int:
    """Bytes of a number, without the exponents of fp8.

    Args:
        storage: its type.
    """
    return np.dtype(BITS[storage]).itemsize


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """Numbers as they are stored."""

    bits: Bits
    """(B, ...)"""
    storage: Storage
    exponents: Exponents | None = None
    """Of fp8: of each row, with the leading axes of `bits`; a value is its bits' times two to this power."""

    def __len__(self) -> int:
        return len(self.bits)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the numbers."""
        return self.bits.shape


def empty(shape: Sequence[int], storage: Storage, row_axes: int) -> Packed:
    """Room for numbers.

    Args:
        shape: of them.
        storage: their type.
        row_axes: how many of the last axes make up a row, which fp8 has one exponent for.
    """
    bits = np.empty(tuple(shape), dtype=BITS[storage])
    exponents = np.empty(tuple(shape[: len(shape) - row_axes]), dtype=np.int8) if storage == "fp8" else None
    return Packed(bits=bits, storage=storage, exponents=exponents)

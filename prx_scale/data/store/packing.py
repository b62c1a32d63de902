"""Between torch's numbers and stored ones."""

from __future__ import annotations

import torch
from torch import Tensor

from prx_scale.data.store.batch import EncodedBatch
from prx_scale.data.store.storage import LARGEST, Packed, Storage
from prx_scale.errors import InputError
from prx_scale.models.encoders.image.moments import Moments, from_channels
from prx_scale.models.encoders.states import TextStates
from prx_scale.models.encoders.text.together import place
from prx_scale.models.inputs import Inputs

_TYPES: dict[Storage, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": torch.float8_e4m3fn,
}


def pack(values: Tensor, storage: Storage, row_axes: int, what: str) -> Packed:
    """Round numbers to a stored type.

    Args:
        values: (B, ...) on the CPU.
        storage: the type.
        row_axes: how many of the last axes make up a row, which fp8 has one exponent for.
        what: they are, for errors.

    Raises:
        InputError: a number is not finite, or too large for fp16.
    """
    values = values.detach()
    exponents = None
    if storage == "fp8":
        values, exponents = _scaled(values.float(), row_axes)
    rounded = values.to(_TYPES[storage]).contiguous()
    if not bool(rounded.float().isfinite().all()):
        if bool(values.isfinite().all()):
            raise InputError(
                f"{what}: {float(values.abs().max()):.4g} is too large for {storage}, which ends at "
                f"{torch.finfo(_TYPES[storage]).max:.5g}; store bf16 or fp8"
            )
        raise InputError(f"{what}: not all numbers are finite; encode in float32 (--precision float32)")
    bits = rounded.view(torch.uint8 if storage == "fp8" else torch.uint16).numpy()
    return Packed(bits=bits, storage=storage, exponents=None if exponents is None else exponents.numpy())


def _scaled(values: Tensor, row_axes: int) -> tuple[Tensor, Tensor]:
    """Rows divided by powers of two, so that the largest of each is at most that of e4m3, and the powers."""
    largest = values.abs().flatten(-row_axes).amax(dim=-1)
    # m 2^e with m in [1/2, 1); what is not finite is left to be found by the caller.
    mantissa, exponent = torch.frexp((largest / LARGEST).nan_to_num(posinf=0.0))
    exponent = torch.where(mantissa == 0.5, exponent - 1, exponent).clamp(-120, 120)
    exponent = torch.where(largest > 0, exponent, 0).to(torch.int32)
    rows = exponent.reshape(*exponent.shape, *[1] * row_axes)
    return torch.ldexp(values, -rows), exponent.to(torch.int8)


def unpack(packed: Packed, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Tensor:
    """Stored numbers as torch's.

    Args:
        packed: as they are stored. On the CPU, bf16 and fp16 share its memory.
        device: that they go to, as they are stored; only there fp8 becomes larger.
        dtype: by default the stored type, bfloat16 for fp8, which loses nothing.
    """
    values = torch.from_numpy(packed.bits).view(_TYPES[packed.storage]).to(device)
    if packed.exponents is not None:
        exponents = torch.from_numpy(packed.exponents).to(device)
        rows = exponents.reshape(*exponents.shape, *[1] * (values.ndim - exponents.ndim))
        # Numbers of four bits times a power of two are exact, in bfloat16 too.
        return torch.ldexp(values.float(), rows.to(torch.int32)).to(dtype or torch.bfloat16)
    return values if dtype is None else values.to(dtype)


def moments_of(batch: EncodedBatch, channels: int, device: torch.device | str = "cpu") -> Moments:
    """Mean and standard deviation of a batch's latents, as stored.

    Args:
        batch: of a store, or encoded on the fly.
        channels: of the image encoder.
        device: that they go to.
    """
    return from_channels(unpack(batch.latents, device), channels)


def states_of(batch: EncodedBatch, inputs: Inputs, device: torch.device | str = "cpu") -> TextStates:
    """A batch's text states, laid into the context of a backbone.

    Args:
        batch: with token states of each encoder.
        inputs: which encoder fills which part.
        device: that they go to.

    Raises:
        InputError: an encoder's states are missing.
    """
    return place([_states(batch, encoder.name, device) for encoder in inputs.encoders], inputs)


def _states(batch: EncodedBatch, name: str, device: torch.device | str) -> TextStates:
    found = batch.states.get(name)
    if found is None or found.tokens is None:
        raise InputError(f"token states of '{name}' are not in the store; encode with it, and without --pooled-only")
    tokens = unpack(found.tokens, device)
    pooled = tokens.new_zeros(len(tokens), 0) if found.pooled is None else unpack(found.pooled, device)
    mask = None
    if found.lengths is not None:
        lengths = torch.from_numpy(found.lengths).to(device)
        mask = torch.arange(tokens.shape[1], device=device) < lengths[:, None]
    return TextStates(tokens=tokens, pooled=pooled, mask=mask)

"""`prx-scale import-weights`: published weights into a folder that runs can start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from prx_scale.models.convert.importing import Imported

ROUNDING = 1e-5
"""Positions that are further from their sinusoids were stored in 16 bits, and that is said."""


@dataclass(frozen=True, kw_only=True)
class ImportWeights:
    """Read SD3 weights, in diffusers' or Stability's layout, and write a folder that runs can start from.

    Nothing is unpickled. Prints what was found and the study file's [model] table for it.

    Example: prx-scale import-weights stable-diffusion-3/ --out sd3-weights

    Example: prx-scale import-weights sd3_medium.safetensors --out sd3-weights
    """

    source: tyro.conf.Positional[Path]
    """A diffusers pipeline or transformer folder, a .safetensors file or its index, or a .pt, .pth, .bin or .ckpt
    file."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The folder to write."""
    overwrite: bool = False
    """Replace a folder that this verb wrote before."""

    def run(self) -> int:
        """Import the weights.

        Raises:
            InputError: they cannot be read or represented, or the folder is taken.
        """
        from prx_scale.commands.children import quiet_threads
        from prx_scale.commands.text import plain_console

        quiet_threads()
        from prx_scale.models.convert.importing import import_weights

        done = import_weights(self.source, self.out, overwrite=self.overwrite)
        console = plain_console()
        for line in report(done, self.source, self.out):
            console.print(line, soft_wrap=True, markup=False)
        return 0


def report(done: Imported, source: Path, out: Path) -> list[str]:
    """What was found, and how a run starts from it.

    Args:
        done: the import.
        source: what was imported.
        out: where it is.
    """
    from prx_scale.startweights import model_table

    sizes, info = done.info.sizes, done.info
    rows = {
        "layout": {"diffusers": "diffusers", "stability": "Stability (fused q, k, v)"}[done.found.layout.name],
        "stored as": _types(done),
        "depth, width": f"{sizes.depth}, {sizes.hidden} ({sizes.heads} heads of 64)",
        "QK-norm": "yes" if sizes.qk_norm else "no",
        "channels": f"{sizes.channels}, in patches of {sizes.patch} x {sizes.patch}",
        "text states": f"{sizes.context_dim} wide, pooled {sizes.pooled_dim}",
        "positions": _positions(done),
        "parameters": f"{info.parameters:,}",
        "hash": info.hash[:16],
    }
    if done.positions_off > ROUNDING:
        rows["in the file"] = f"they are rounded, by up to {done.positions_off:.0e}; computed exactly here"
    if done.found.others:
        rows["left alone"] = f"{done.found.others} tensors beside the transformer's"
    table = [f"{key} = {value}" for key, value in model_table(info).items()]
    return [
        f"{source} -> {out}",
        *(f"  {name:<12}  {text}" for name, text in rows.items()),
        "",
        "A study starts from it with:",
        "",
        "[model]",
        *table,
        "",
        "[training]",
        f'start_from = "{out}"',
        *_image_size(done),
    ]


def _types(done: Imported) -> str:
    types = ", ".join(done.dtypes)
    return types if done.dtypes == ("float32",) else f"{types}; written as float32"


def _positions(done: Imported) -> str:
    positions, even = done.info.positions, done.even_grid
    if positions.kind == "sin-cos":
        return f"sin-cos, {positions.grid} a side, image {positions.image}, base {positions.base}"
    if even is None:
        return f"a table, {positions.grid} a side, kept as a learned one"
    return f"sin-cos, {even.side} a side, from {even.origin:.4g} by {even.step:.4g}; kept as a learned table"


def _image_size(done: Imported) -> list[str]:
    """At which [data] image_size fixed positions are the weights' own."""
    positions, patch = done.info.positions, done.info.sizes.patch
    if positions.kind != "sin-cos":
        return []
    side = positions.image * patch
    return [
        "",
        f"These are its positions where an image is {side} latents, or pixels, a side;",
        'positions = "learned", without position_base, keeps them at any other size.',
    ]

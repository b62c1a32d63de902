"""Which files of a folder an encoder's weights are in. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from prx_scale.errors import InputError

_STEMS = (("safetensors", ("model", "diffusion_pytorch_model")), ("bin", ("pytorch_model", "diffusion_pytorch_model")))


def weight_files(folder: Path) -> list[Path]:
    """The files that weights are read from: one, or those that an index names; safetensors before pickled ones.

    Args:
        folder: of the weights.

    Raises:
        InputError: there are none.
    """
    for suffix, stems in _STEMS:
        for stem in stems:
            if files := list(_files_of(folder, stem, suffix)):
                return files
    names = ", ".join(f"{stem}.{suffix}" for suffix, stems in _STEMS for stem in stems)
    raise InputError(f"{folder}: no weights; looked for {names}, or their indices")


def _files_of(folder: Path, stem: str, suffix: str) -> Iterator[Path]:
    single, index = folder / f"{stem}.{suffix}", folder / f"{stem}.{suffix}.index.json"
    if single.is_file():
        yield single
    elif index.is_file():
        try:
            names = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError(f"{index}: not an index of weights ({error})") from error
        yield from (folder / name for name in sorted(names))

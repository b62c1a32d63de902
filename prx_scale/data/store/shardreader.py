"""One shard of a store, open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.store import layout
from prx_scale.data.store.recipe import Recipe
from prx_scale.data.store.tensorfile import TensorFile
from prx_scale.errors import InputError


class ShardReader:
    """An open shard, with the tables of its samples."""

    def __init__(self, folder: Path, recipe: Recipe, shard: int) -> None:
        """Open it.

        Args:
            folder: of the store.
            recipe: of the store.
            shard: its number.

        Raises:
            InputError: a file is missing or damaged.
        """
        self.tensors = TensorFile(layout.shard_file(folder, shard, "safetensors"))
        try:
            self.captions: NDArray[np.int32] = self.tensors.whole(layout.SAMPLE_CAPTION)
            sizes = [each.image_size for each in recipe.resolutions]
            self.bucket = {size: self.tensors.whole(layout.sample_bucket(size)) for size in sizes}
            self.row = {size: self.tensors.whole(layout.sample_row(size)) for size in sizes}
            self.conditioning = {size: self.tensors.whole(layout.sample_conditioning(size)) for size in sizes}
            names = {name: layout.starts(name) for name in (each.name for each in recipe.text)}
            self.starts = {name: self.tensors.whole(at) for name, at in names.items() if at in self.tensors.entries}
        except KeyError as error:
            self.tensors.close()
            raise InputError(f"{self.tensors.file}: damaged: has no tensor {error}") from error

    @property
    def bytes(self) -> int:
        """Of the tables."""
        tables = (self.bucket, self.row, self.conditioning, self.starts)
        return self.captions.nbytes + sum(each.nbytes for table in tables for each in table.values())

"""Batches out of a store. Needs no torch.

A process holds open files, and the tables of their samples, of the latest shards up to a bound; latents and text states
are read straight into the batch. So memory stays flat however long it reads, and any number of processes read at once:
what they share is the page cache. One reader is for one thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.sources.kept import Kept
from prx_scale.data.store import layout
from prx_scale.data.store.batch import Numbers
from prx_scale.data.store.check import Expected, check_recipe
from prx_scale.data.store.recipe import SHARDS_AT_ONCE, Recipe
from prx_scale.data.store.records import damage
from prx_scale.data.store.shardreader import ShardReader
from prx_scale.data.store.tensorfile import mapped
from prx_scale.data.store.views import StoreView
from prx_scale.data.store.writing import Written, hash_file
from prx_scale.errors import InputError
from prx_scale.models.encoders.image.normalisation import LatentStatistics

if TYPE_CHECKING:
    import polars as pl

_OPEN = 2 * SHARDS_AT_ONCE
"""Shards whose files are open."""
_TABLES = 1 << 27
"""Bytes of the tables of their samples."""
_TEXTS = 1 << 29
"""Bytes of captions, where they are asked for: of a million samples and more, as many as are shuffled together."""

Mask = NDArray[np.bool_]


class Store:
    """Encoded samples, by the number that they have in the data."""

    def __init__(self, folder: Path, recipe: Recipe, index: Mapping[str, Any]) -> None:
        """What `open` makes.

        Args:
            folder: of the store.
            recipe: of its content.
            index: as it was read.
        """
        self.folder, self.recipe, self.index = folder, recipe, index
        self._shards: Kept[int, ShardReader] = Kept(
            _TABLES, weigh=lambda shard: shard.bytes + _TABLES // _OPEN, drop=lambda shard: shard.tensors.close()
        )
        self._texts: Kept[int, pl.DataFrame] = Kept(_TEXTS, weigh=lambda table: int(table.estimated_size()))

    @classmethod
    def open(cls, path: Path | str, expects: Expected | None = None, *, check_files: bool = True) -> Self:
        """Open a store.

        Args:
            path: its folder.
            expects: what it must be.
            check_files: that every file is there and has its size.

        Raises:
            InputError: there is none, it is not finished, a file is missing or has another size, or it is not what is
                expected.
        """
        folder = Path(path)
        index = _read_index(folder)
        recipe = Recipe.from_json(index.get("recipe"), f"{folder / layout.INDEX}: recipe")
        if recipe.hash != index.get("hash") or len(index.get("shards", ())) != recipe.shards:
            raise InputError(f"{folder / layout.INDEX}: damaged: its hash or its shards are not those of its recipe")
        store = cls(folder, recipe, index)
        if expects is not None:
            check_recipe(recipe, expects, str(folder))
        if check_files:
            store._refuse(store.damaged(content=False))
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process opens files of its own.
        return _reopened, (self.folder,)

    def __len__(self) -> int:
        return self.recipe.data.samples

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of captions."""
        return self.recipe.captions.kinds

    @property
    def bounds(self) -> Numbers:
        """(S + 1,) first sample of each shard, and the number of all."""
        return self.recipe.bounds

    def blocks(self, samples: int = 1 << 20) -> Numbers:
        """First samples of groups of shards, for an order that reads one group at a time.

        Args:
            samples: of a group at most; a shard is never split, and no group has more shards than can be open.
        """
        return self.recipe.blocks(samples)

    def at(self, image_size: int) -> StoreView:
        """The latents of one resolution, with the text states.

        Args:
            image_size: the resolution.

        Raises:
            InputError: the store does not have it.
        """
        check_recipe(self.recipe, Expected(image_size=image_size), str(self.folder))
        found = next(each for each in self.recipe.resolutions if each.image_size == image_size)
        return StoreView(self, found)

    def available(self, numbers: Numbers, kinds: Sequence[str]) -> Mask:
        """Which kinds of captions samples have (B, K).

        Args:
            numbers: (B,) of the samples.
            kinds: K of them.

        Raises:
            InputError: a kind that is not encoded.
        """
        check_recipe(self.recipe, Expected(kinds=kinds), str(self.folder))
        bits = np.array([self.kinds.index(kind) for kind in kinds], dtype=np.uint32)
        return (self._kinds[numbers][:, None] >> bits & np.uint32(1)).astype(np.bool_)

    def captions(self, numbers: Numbers) -> list[dict[str, str]]:
        """Captions of samples, by kind; those of the shards that were last asked for stay in memory.

        Args:
            numbers: (B,) of the samples.
        """
        found: list[dict[str, str]] = [{} for _ in numbers]
        for shard, places, inside in self.by_shard(numbers):
            table = self._texts.get(shard, lambda shard=shard: self._texts_of(shard))
            for place, row in zip(places.tolist(), inside.tolist(), strict=True):
                values = zip(self.kinds, table.row(row), strict=True)
                found[place] = {kind: text for kind, text in values if text is not None}
        return found

    def _texts_of(self, shard: int) -> pl.DataFrame:
        import polars as pl

        columns = [f"caption.{kind}" for kind in self.kinds]
        return pl.read_parquet(layout.shard_file(self.folder, shard, "parquet"), columns=columns)

    @property
    def bytes(self) -> int:
        """Of all files that have its content."""
        shards = sum(written["bytes"] for files in self.index["shards"] for written in files.values())
        return shards + sum(written["bytes"] for written in self.index["files"].values())

    def statistics(self, image_size: int) -> LatentStatistics:
        """Of the latents of a resolution, over all samples.

        Args:
            image_size: the resolution.
        """
        where = f"{self.folder / layout.INDEX}: statistics"
        return LatentStatistics.from_json(self.index["statistics"][str(image_size)], where)

    def verify(self) -> None:
        """Read everything and compare it with what was written.

        Raises:
            InputError: names the files that differ.
        """
        self._refuse(self.damaged(content=True))

    def damaged(self, *, content: bool) -> list[str]:
        """What is wrong with files of the store.

        Args:
            content: read them, and compare their hashes too.
        """
        found: list[str] = []
        for name, written in self.index["files"].items():
            found += _damaged(self.folder / name, Written(**written), content)
        for shard, files in enumerate(self.index["shards"]):
            written = {suffix: Written(**each) for suffix, each in files.items()}
            if wrong := damage(self.folder, shard, written, content=content):
                found.append(wrong)
        return found

    def _refuse(self, damaged: Sequence[str]) -> None:
        if damaged:
            more = f", and {len(damaged) - 3} more" if len(damaged) > 3 else ""
            raise InputError(
                f"{self.folder}: {'; '.join(damaged[:3])}{more}; run the same prx-scale encode with --verify, which "
                "makes those shards again"
            )

    def by_shard(self, numbers: Numbers) -> Iterator[tuple[int, Numbers, Numbers]]:
        """Samples shard by shard: the shard's number, places in `numbers`, and places in the shard.

        Args:
            numbers: (B,) of the samples.
        """
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise InputError(f"{self.folder}: has samples 0 to {len(self) - 1}, not {numbers.min()} to {numbers.max()}")
        shards, inside = np.divmod(numbers, self.recipe.shard_size)
        order = np.argsort(shards, kind="stable")
        edges = np.flatnonzero(np.diff(shards[order])) + 1
        for places in np.split(order, edges):
            if len(places):
                yield int(shards[places[0]]), places, inside[places]

    def shard(self, number: int) -> ShardReader:
        """An open shard.

        Args:
            number: of the shard.
        """
        return self._shards.get(number, lambda: ShardReader(self.folder, self.recipe, number))

    @cached_property
    def _kinds(self) -> NDArray[np.uint32]:
        return mapped(self.folder / layout.KINDS, len(self))


def _reopened(folder: Path) -> Store:
    return Store.open(folder, check_files=False)


def _read_index(folder: Path) -> dict[str, Any]:
    file = folder / layout.INDEX
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        if (folder / layout.RECIPE).exists():
            raise InputError(f"{folder}: not finished; run the same prx-scale encode again, it goes on") from error
        raise InputError(f"{folder}: no store in it ({layout.INDEX}: {error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{file}: damaged, no JSON ({error}); prx-scale encode writes it again") from error
    if not isinstance(index, dict) or index.get("format") != layout.FORMAT:
        raise InputError(f"{file}: not the index of a store")
    if index.get("version") != layout.VERSION:
        raise InputError(f"{file}: version {index.get('version')}; this program reads {layout.VERSION}")
    return index


def _damaged(file: Path, written: Written, content: bool) -> list[str]:
    try:
        if file.stat().st_size != written.bytes:
            return [f"{file}: has {file.stat().st_size:,} bytes, {written.bytes:,} were written"]
        if content and hash_file(file) != written:
            return [f"{file}: its content is not what was written (SHA-256)"]
    except OSError as error:
        return [f"{file}: cannot be read ({error.strerror})"]
    return []

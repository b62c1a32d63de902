"""What a filter says of every sample, for whoever reads the samples next: kept or not, and how often to be seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.shapes.hashing import uniforms
from prx_scale.data.sources.base import Source
from prx_scale.data.sources.selected import SelectedSource
from prx_scale.errors import InputError

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
INFO = "manifest.json"
KEEP = "keep.npy"
WEIGHT = "weight.npy"
TABLE = "samples"

Mask = NDArray[np.bool_]
Weights = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """The result of a filter. Samples are numbered through the shards, each shard's places in order.

    The arrays are mapped from files, so processes share them, and N of hundreds of millions opens at once.
    """

    folder: Path
    fingerprint: str
    """Of the source that was filtered: its shards and their counts."""
    identity: str
    """Hash of what is kept, and with what weights, in which source."""
    shards: tuple[str, ...]
    starts: Numbers
    """(S + 1,) number of the first sample of each shard, and of all samples."""
    keep: Mask
    """(N,) whether a sample is kept."""
    weight: Weights
    """(N,) how often a sample is to be seen: 1 on average over those kept, 0 for others."""
    info: Mapping[str, Any]
    """manifest.json."""

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open the result of a filter.

        Args:
            path: its folder, or the manifest.json in it.

        Raises:
            InputError: there is none, it is not complete, or its files do not belong together.
        """
        file = Path(path)
        file = file if file.name == INFO else file / INFO
        info = _read(file)
        try:
            counts = np.array([count for _, count in info["shards"]], dtype=np.int64)
            starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            return cls(
                folder=file.parent,
                fingerprint=str(info["source"]["fingerprint"]),
                identity=str(info["identity"]),
                shards=tuple(str(name) for name, _ in info["shards"]),
                starts=starts,
                keep=_array(file.parent / KEEP, np.bool_, int(starts[-1])),
                weight=_array(file.parent / WEIGHT, np.float32, int(starts[-1])),
                info=info,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{file}: damaged ({error}); write it anew with prx-scale filter") from error

    @property
    def samples(self) -> int:
        """All samples."""
        return int(self.starts[-1])

    @property
    def kept(self) -> int:
        """Those kept."""
        return int(self.info["counts"]["kept"])

    def check(self, source: Source) -> None:
        """Refuse a source that is not the one that was filtered, or of which nothing was kept.

        Args:
            source: as it is opened now.

        Raises:
            InputError: it has other shards, or other counts, or there is nothing left of it.
        """
        if source.fingerprint() == self.fingerprint:
            if not self.kept:
                raise InputError(f"{self.folder}: keeps none of the {len(self.keep):,} samples; filter with other cuts")
            return
        counts = source.counts().tolist()
        here = list(zip(source.shards, counts, strict=True))
        then = list(zip(self.shards, np.diff(self.starts).tolist(), strict=True))
        pairs = zip(here, then, strict=False)
        first = next((f"it has {a[0]} ({a[1]}) for {b[0]} ({b[1]})" for a, b in pairs if a != b), "")
        first = first or f"it has {len(here)} shards for {len(then)}"
        raise InputError(
            f"{self.folder}: was made of other data than {source.spec}: {first}; filter those with prx-scale filter"
        )

    def of(self, shard: int) -> tuple[Mask, Weights]:
        """Whether each place of a shard is kept (n,), and with what weight (n,).

        Args:
            shard: its number.
        """
        inside = slice(int(self.starts[shard]), int(self.starts[shard + 1]))
        return self.keep[inside], self.weight[inside]

    def keeps(self, shard: int, place: int) -> bool:
        """Whether one sample is kept.

        Args:
            shard: number of its shard.
            place: its number there.
        """
        return bool(self.keep[int(self.starts[shard]) + place])

    def times(self, epoch: int, seed: int) -> Numbers:
        """How often each sample comes in an epoch (N,): its weight on average, rounded up or down by chance.

        Chance is named by seed, epoch and sample number, so every process and every restart has the same.

        Args:
            epoch: from 0.
            seed: below 2^40.
        """
        times = np.zeros(self.samples, dtype=np.int64)
        for start in range(0, self.samples, 1 << 20):
            weight = self.weight[start : start + (1 << 20)]
            numbers = np.arange(start, start + len(weight), dtype=np.int64)
            times[start : start + len(weight)] = weight + uniforms((seed << 20) | epoch, numbers, 1)[:, 0]
        return times

    def select(self, source: Source, *, weighted: bool = True, epoch: int = 0, seed: int = 0) -> SelectedSource:
        """The source without what was removed; nothing is copied.

        Args:
            source: that was filtered.
            weighted: whether a sample comes as often as `times` says; else each kept one comes once.
            epoch: for `times`.
            seed: for `times`.

        Raises:
            InputError: it is another source.
        """
        self.check(source)
        times = self.times(epoch, seed) if weighted else self.keep.astype(np.int64)
        bounds = pairwise(self.starts.tolist())
        places = [np.repeat(np.arange(stop - start), times[start:stop]) for start, stop in bounds]
        return SelectedSource(source, places)

    def table(self) -> pl.LazyFrame:
        """One row a sample: key, shard, place, scores, keep, reason, weight."""
        import polars as pl

        return pl.scan_parquet(self.folder / TABLE / "*.parquet")


def _read(file: Path) -> Mapping[str, Any]:
    try:
        info: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"has no {INFO}; the filter was cut short, or is not one" if file.parent.is_dir() else "no such folder"
        raise InputError(f"{file.parent}: {reason}; prx-scale filter DATA --out {file.parent} writes it") from error
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error})") from error
    if not isinstance(info, dict) or cast("dict[str, Any]", info).get("schema") != SCHEMA:
        raise InputError(f"{file}: not of schema {SCHEMA}, the one that this version reads")
    return cast("dict[str, Any]", info)


def _array(file: Path, kind: type[np.generic], length: int) -> NDArray[Any]:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{file.name} cannot be read: {error}") from error
    if array.dtype != kind or array.shape != (length,):
        raise ValueError(f"{file.name} has {array.shape} of {array.dtype}, {length} of {np.dtype(kind)} are right")
    return array

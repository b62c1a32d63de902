"""The record of a shard: that it is there, what is in it, and the hashes of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prx_scale.data.samples import Skip, Skipped
from prx_scale.data.store import layout
from prx_scale.data.store.writing import Written, hash_file, write_bytes
from prx_scale.errors import InputError
from prx_scale.models.encoders.image.normalisation import LatentStatistics

FILES = ("safetensors", "parquet")


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """One shard that is there."""

    shard: int
    recipe: str
    """Hash of the recipe that it was made by."""
    samples: int
    """Places of the data in it, those left out too."""
    counts: Mapping[int, tuple[int, ...]]
    """Latents in each bucket, by resolution."""
    small: Mapping[int, int]
    """Samples that are too small, by resolution."""
    filtered: int
    """Samples that a filter left out."""
    captions: Mapping[str, int]
    """Samples that have a caption, by kind."""
    texts: int
    """Different captions."""
    statistics: Mapping[int, LatentStatistics]
    """Of the latents, by resolution."""
    left_out: tuple[Skipped, ...]
    """Samples that could not be used."""
    files: Mapping[str, Written]
    """By suffix."""

    @property
    def bytes(self) -> int:
        """Of its files."""
        return sum(each.bytes for each in self.files.values())


def write_record(folder: Path, record: ShardRecord) -> None:
    """Write a record; with it, the shard counts.

    Args:
        folder: of the store.
        record: whose files are there.
    """
    content = asdict(record)
    content["left_out"] = [asdict(each) for each in record.left_out]
    content["statistics"] = {str(size): each.to_json() for size, each in record.statistics.items()}
    write_bytes(layout.shard_file(folder, record.shard, "json"), json.dumps(content, indent=1).encode())


def read_record(folder: Path, shard: int) -> ShardRecord | None:
    """The record of a shard, if it has one.

    Args:
        folder: of the store.
        shard: its number.

    Raises:
        InputError: it is there and damaged.
    """
    file = layout.shard_file(folder, shard, "json")
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return ShardRecord(
            shard=int(content["shard"]),
            recipe=str(content["recipe"]),
            samples=int(content["samples"]),
            counts={int(size): tuple(counts) for size, counts in content["counts"].items()},
            small={int(size): int(count) for size, count in content["small"].items()},
            filtered=int(content["filtered"]),
            captions={str(kind): int(count) for kind, count in content["captions"].items()},
            texts=int(content["texts"]),
            statistics={
                int(size): LatentStatistics.from_json(each, f"{file}: statistics")
                for size, each in content["statistics"].items()
            },
            left_out=tuple(Skipped(**{**each, "reason": Skip(each["reason"])}) for each in content["left_out"]),
            files={str(suffix): Written(**each) for suffix, each in content["files"].items()},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: damaged ({error}); delete it, and encode writes the shard again") from error


def damage(folder: Path, shard: int, files: Mapping[str, Written], *, content: bool) -> str | None:
    """What is wrong with the files of a shard, if anything.

    Args:
        folder: of the store.
        shard: its number.
        files: what was written.
        content: read them, and compare their hashes too.
    """
    for suffix, written in files.items():
        file = layout.shard_file(folder, shard, suffix)
        try:
            size = file.stat().st_size
            if size != written.bytes:
                return f"{file}: has {size:,} bytes, {written.bytes:,} were written"
            if content and hash_file(file) != written:
                return f"{file}: its content is not what was written (SHA-256)"
        except OSError as error:
            return f"{file}: cannot be read ({error.strerror})"
    return None

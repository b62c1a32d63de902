"""The folder of a store: begun by its recipe, added to shard by shard, finished by an index when all are there."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.store import layout
from prx_scale.data.store.differences import differences
from prx_scale.data.store.recipe import Recipe
from prx_scale.data.store.records import ShardRecord, damage, read_record
from prx_scale.data.store.tensorfile import TensorFile
from prx_scale.data.store.writing import Written, write_bytes
from prx_scale.errors import InputError
from prx_scale.models.encoders.image.normalisation import LatentStatistics

MOST_KINDS = 32
"""Kinds of captions that a store can have: bits of `kinds.npy`."""


def begin(folder: Path, recipe: Recipe) -> None:
    """Make the folder of a store, or go on with one.

    Args:
        folder: of the store.
        recipe: by which shards are going to be made.

    Raises:
        InputError: what is there is something else, or was made otherwise.
    """
    file = folder / layout.RECIPE
    check_folder(folder)
    if not file.exists():
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(file, json.dumps(recipe.to_json(), indent=1, ensure_ascii=False).encode())
    there = read_recipe(folder)
    if unequal := differences(recipe, there):
        more = f", and {len(unequal) - 3} more" if len(unequal) > 3 else ""
        raise InputError(
            f"{folder}: was begun otherwise: {'; '.join(unequal[:3])}{more}; go on with the same options and "
            "version, or choose another --out"
        )


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot become a store, before anything is loaded.

    Args:
        folder: need not be there.

    Raises:
        InputError: what is there is something else.
    """
    if (folder / layout.RECIPE).exists() or not folder.exists():
        return
    # A draft may be that of another process, which begins the same store.
    if not folder.is_dir() or any(not each.name.endswith(".part") for each in folder.iterdir()):
        raise InputError(f"{folder}: is there and no store; choose another --out")


@contextmanager
def told(folder: Path) -> Generator[None]:
    """Say of which store it is that something cannot be written.

    Args:
        folder: of the store.

    Raises:
        InputError: the system refused.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise InputError(f"{folder}: cannot be written ({where}: {error.strerror})") from error


def read_recipe(folder: Path) -> Recipe:
    """What the content of a store depends on.

    Args:
        folder: of the store.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = folder / layout.RECIPE
    try:
        return Recipe.from_json(json.loads(file.read_text(encoding="utf-8")), str(file))
    except OSError as error:
        raise InputError(f"{folder}: no store ({layout.RECIPE}: {error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error}); encode into another folder, or put the file back") from error


def missing(folder: Path, recipe: Recipe, shards: Iterable[int], *, content: bool = False) -> dict[int, str | None]:
    """Shards that are still to be made, with what is wrong where one is there.

    Args:
        folder: of the store.
        recipe: by which they are made.
        shards: to look at.
        content: also compare the hashes of their files.
    """
    found: dict[int, str | None] = {}
    for shard in shards:
        record = read_record(folder, shard)
        if record is None:
            found[shard] = None
        elif record.recipe != recipe.hash or record.samples != np.diff(recipe.range(shard))[0]:
            found[shard] = f"{layout.shard_file(folder, shard, 'json')}: made by another recipe"
        elif wrong := damage(folder, shard, record.files, content=content):
            found[shard] = wrong
    return found


def forget(folder: Path, shards: Iterable[int]) -> None:
    """Let shards no longer count.

    Args:
        folder: of the store.
        shards: their numbers.
    """
    for shard in shards:
        layout.shard_file(folder, shard, "json").unlink(missing_ok=True)
        (folder / layout.INDEX).unlink(missing_ok=True)


def finish(folder: Path, recipe: Recipe) -> bool:
    """Write the index, if all shards are there. Whoever does it, and how often, the result is the same.

    Args:
        folder: of the store.
        recipe: of its content.

    Returns:
        Whether all shards are there.
    """
    records: list[ShardRecord] = []
    for shard in range(recipe.shards):
        record = read_record(folder, shard)
        if record is None:
            return False
        records.append(record)
    _check_any(folder, recipe, records)
    with told(folder):
        files = {layout.SKIPPED: _write_skipped(folder, records)}
        buckets, kinds = _arrays(folder, recipe)
        for size, values in buckets.items():
            files[layout.buckets_file(folder, size).name] = _write_array(layout.buckets_file(folder, size), values)
        files[layout.KINDS] = _write_array(folder / layout.KINDS, kinds)
        index = _index(recipe, records, files)
        write_bytes(folder / layout.INDEX, json.dumps(index, ensure_ascii=False).encode())
    return True


def _check_any(folder: Path, recipe: Recipe, records: Sequence[ShardRecord]) -> None:
    """Refuse to finish what nothing could ever be trained on."""
    if any(sum(counts) for record in records for counts in record.counts.values()):
        return
    why = ", ".join(f"{count:,} {reason}" for reason, count in _left_out(recipe, records).items() if count)
    first = next((skipped for record in records for skipped in record.left_out), None)
    example = f"; {first.key}: {first.detail or first.reason}" if first else ""
    raise InputError(
        f"{folder}: none of the {recipe.data.samples:,} samples has latents: {why}{example}; other data or "
        "smaller image sizes make another store, in another --out"
    )


def _index(recipe: Recipe, records: Sequence[ShardRecord], files: dict[str, Written]) -> dict[str, Any]:
    return {
        "format": layout.FORMAT,
        "version": layout.VERSION,
        "hash": recipe.hash,
        "recipe": recipe.to_json(),
        "samples": recipe.data.samples,
        "counts": {
            str(each.image_size): {
                bucket.name: sum(record.counts[each.image_size][number] for record in records)
                for number, bucket in enumerate(each.buckets)
            }
            for each in recipe.resolutions
        },
        "captions": {kind: sum(record.captions[kind] for record in records) for kind in recipe.captions.kinds},
        "left_out": _left_out(recipe, records),
        "statistics": {
            str(each.image_size): sum(
                (record.statistics[each.image_size] for record in records), start=LatentStatistics()
            ).to_json()
            for each in recipe.resolutions
        },
        "files": {name: asdict(written) for name, written in files.items()},
        "shards": [{suffix: asdict(written) for suffix, written in record.files.items()} for record in records],
    }


def _left_out(recipe: Recipe, records: Sequence[ShardRecord]) -> dict[str, int]:
    """Samples without latents at an image size, by reason."""
    reasons = Counter(str(skipped.reason) for record in records for skipped in record.left_out)
    sizes = [each.image_size for each in recipe.resolutions]
    return {
        **dict(sorted(reasons.items())),
        "filtered": sum(record.filtered for record in records),
        **{f"too small for {size}": sum(record.small[size] for record in records) for size in sizes},
    }


def _write_skipped(folder: Path, records: Sequence[ShardRecord]) -> Written:
    lines = (json.dumps(asdict(each), ensure_ascii=False) for record in records for each in record.left_out)
    return write_bytes(folder / layout.SKIPPED, "".join(f"{line}\n" for line in lines).encode())


def _arrays(folder: Path, recipe: Recipe) -> tuple[dict[int, NDArray[np.int16]], NDArray[np.uint32]]:
    buckets = {each.image_size: np.empty(recipe.data.samples, dtype=np.int16) for each in recipe.resolutions}
    kinds = np.zeros(recipe.data.samples, dtype=np.uint32)
    for shard in range(recipe.shards):
        first, stop = recipe.range(shard)
        file = TensorFile(layout.shard_file(folder, shard, "safetensors"))
        try:
            for size, values in buckets.items():
                values[first:stop] = file.whole(layout.sample_bucket(size))
            has = file.whole(layout.SAMPLE_CAPTION) >= 0
            for kind in range(has.shape[1]):
                kinds[first:stop] |= has[:, kind].astype(np.uint32) << np.uint32(kind)
        finally:
            file.close()
    return buckets, kinds


def _write_array(file: Path, values: NDArray[Any]) -> Written:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return write_bytes(file, buffer.getvalue())

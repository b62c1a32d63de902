"""The same latents and text states in the forms that others keep them in, and readers of each.

Values are random: what is measured is the copying of bits, and they are not compressed anywhere.
"""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prx_scale.data.buckets import Bucket
from prx_scale.data.store import Store
from prx_scale.data.store.finishing import begin, finish
from prx_scale.data.store.packing import unpack
from prx_scale.data.store.recipe import Captions, DataName, Encoder, Preprocessing, Recipe, Resolution
from prx_scale.data.store.shards import ShardBuilder, TableRow, TextRows
from prx_scale.data.store.storage import Packed
from prx_scale.models.encoders.identity import EncoderIdentity
from prx_scale.models.encoders.image.normalisation import LatentStatistics
from prx_scale.models.encoders.registry import IMAGE, TEXT

SIZE = 256
LATENTS = (32, 32, 32)
"""Mean and standard deviation of 16 channels, 32 x 32."""
SD3 = ("clip-l", "clip-g", "t5")
BUFFER = 1000
"""Samples in the shuffle buffers of the packages that have one."""

Bits = NDArray[np.uint16]
Batch = tuple[Tensor, ...]


class Made:
    """Random samples: names of arrays, and rows of each."""

    def __init__(self, count: int, *, text: bool) -> None:
        """Draw them.

        Args:
            count: of samples.
            text: with SD3's text states beside the latents.
        """
        self.count, self.text = count, text
        shapes: dict[str, tuple[int, ...]] = {"latents": LATENTS}
        for name in SD3 if text else ():
            shapes[f"{name}.tokens"] = (TEXT[name].tokens, TEXT[name].width)
            if TEXT[name].pooled:
                shapes[f"{name}.pooled"] = (TEXT[name].pooled,)
        self.shapes = shapes

    def rows(self, name: str, first: int, stop: int) -> Bits:
        """Some rows; bits that are finite numbers of bfloat16 and of float16."""
        draw = np.random.default_rng([list(self.shapes).index(name), first])
        return draw.integers(0, 0x7C00, (stop - first, *self.shapes[name]), dtype=np.uint16)

    @property
    def bytes(self) -> int:
        """Of one sample."""
        return 2 * sum(int(np.prod(shape)) for shape in self.shapes.values())


def as_tensor(bits: Bits) -> Tensor:
    """Bits as bfloat16."""
    return torch.from_numpy(bits).view(torch.bfloat16)


def write_store(folder: Path, made: Made, shard: int) -> None:
    """Write a store, as prx-scale encode does."""
    recipe = Recipe(
        data=DataName(spec="made", fingerprint="", samples=made.count),
        image=Encoder(spec=IMAGE["sd3"], identity=EncoderIdentity(name="sd3", kind="kl")),
        text=tuple(
            Encoder(spec=TEXT[name], identity=EncoderIdentity(name=name, kind=TEXT[name].kind))
            for name in (SD3 if made.text else ())
        ),
        resolutions=(Resolution(image_size=SIZE, buckets=(Bucket(height=SIZE, width=SIZE),)),),
        preprocessing=Preprocessing(stretch=0, max_upscaling=4 / 3, max_pixels=1, min_pixels=1, max_ratio=1),
        captions=Captions(kinds=("original",)),
        latents="bf16",
        states="bf16",
        pooled_only=False,
        shard_size=shard,
    )
    begin(folder, recipe)
    for number in range(recipe.shards):
        _write_shard(folder, recipe, made, number)
    assert finish(folder, recipe)


def _write_shard(folder: Path, recipe: Recipe, made: Made, shard: int) -> None:
    builder = ShardBuilder(recipe, shard)
    first, stop = recipe.range(shard)
    numbers = list(range(first, stop))

    def packed(name: str) -> Packed:
        return Packed(bits=made.rows(name, first, stop), storage="bf16")

    framing = [(SIZE, SIZE, 0, 0, SIZE, SIZE)] * len(numbers)
    builder.add_latents(SIZE, 0, numbers, packed("latents"), framing, LatentStatistics())
    states = {
        name: TextRows(
            tokens=packed(f"{name}.tokens"),
            pooled=packed(f"{name}.pooled") if TEXT[name].pooled else None,
            lengths=None,
        )
        for name in (SD3 if made.text else ())
    }
    row = builder.add_texts(states, len(numbers)) if states else 0
    for place, number in enumerate(numbers):
        builder.rows[number] = TableRow(key=str(number), captions={"original": str(number)})
        builder.set_caption(number, 0, row + place)
    builder.write(folder)


def write_tar(path: Path, made: Made, suffix: str) -> None:
    """Write a WebDataset tar with an array a file: .pth as torch saves it, .npy in the bits of float16."""
    with tarfile.open(path, "w") as tar:
        for number in range(made.count):
            for name in made.shapes:
                buffer, row = io.BytesIO(), made.rows(name, number, number + 1)[0]
                if suffix == "pth":
                    torch.save(as_tensor(row).clone(), buffer)
                else:
                    np.save(buffer, row.view(np.float16))
                info = tarfile.TarInfo(f"{number:08d}.{name.replace('.', '-')}.{suffix}")
                info.size = buffer.tell()
                buffer.seek(0)
                tar.addfile(info, buffer)


def write_datasets(folder: Path, made: Made, kind: str) -> None:
    """Write what Hugging Face datasets saves: arrays of numbers, or their bytes."""
    import datasets

    features = datasets.Features({name: _feature(shape, kind) for name, shape in made.shapes.items()})

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(made.count):
            found = {name: made.rows(name, number, number + 1)[0] for name in made.shapes}
            if kind == "bytes":
                yield {name: row.tobytes() for name, row in found.items()}
            else:
                yield {name: row.view(np.float16) for name, row in found.items()}

    cache = str(folder.with_name(f"{folder.name}-cache"))
    data = datasets.Dataset.from_generator(rows, features=features, cache_dir=cache, writer_batch_size=100)
    data.save_to_disk(str(folder))


def _feature(shape: tuple[int, ...], kind: str) -> Any:
    import datasets

    if kind == "bytes":
        return datasets.Value("binary")
    if len(shape) == 1:
        return datasets.Sequence(datasets.Value("float16"), length=shape[0])
    return {2: datasets.Array2D, 3: datasets.Array3D}[len(shape)](shape=shape, dtype="float16")


def from_store(folder: Path, made: Made, batch: int) -> Iterator[Batch]:
    """prx-scale's reader, batches drawn at random out of the whole store."""
    view = Store.open(folder).at(SIZE)
    draw = np.random.default_rng(0)
    captions = np.zeros(batch, dtype=np.int32) if made.text else None
    while True:
        found = view.batch(draw.integers(0, made.count, batch), captions)
        states = [packed for each in found.states.values() for packed in (each.tokens, each.pooled) if packed]
        yield tuple(unpack(packed) for packed in (found.latents, *states))


def from_tar(path: Path, made: Made, batch: int, suffix: str) -> Iterator[Batch]:
    """The webdataset package, one tar after another and a shuffle buffer, as its users have it."""
    import webdataset

    names = [f"{name.replace('.', '-')}.{suffix}" for name in made.shapes]
    data = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False).repeat().shuffle(BUFFER)
    yield from _batches(data.decode().to_tuple(*names), batch)


def from_datasets(folder: Path, made: Made, batch: int, kind: str) -> Iterator[Batch]:
    """Hugging Face datasets, mapped into memory, batches drawn at random out of the whole set."""
    import datasets

    data = datasets.load_from_disk(str(folder))
    data = data if kind == "bytes" else data.with_format("torch", dtype=torch.float16)
    draw = np.random.default_rng(0)
    while True:
        found = data[draw.integers(0, made.count, batch).tolist()]
        if kind == "bytes":
            yield tuple(_joined(found[name], shape) for name, shape in made.shapes.items())
        else:
            yield tuple(found[name] for name in made.shapes)


def _joined(rows: Sequence[bytes], shape: tuple[int, ...]) -> Tensor:
    return as_tensor(np.frombuffer(bytearray().join(rows), dtype=np.uint16).reshape(len(rows), *shape))


def _batches(samples: Any, batch: int) -> Iterator[Batch]:
    pending = iter(samples)
    while rows := list(itertools.islice(pending, batch)):
        yield tuple(torch.stack([torch.as_tensor(each) for each in column]) for column in zip(*rows, strict=True))


Reader = Callable[[], Iterator[Batch]]


def readers(folder: Path, made: Made, batch: int, shard: int, wanted: Sequence[str]) -> dict[str, Reader]:
    """Write every form into a folder, and readers of each.

    Args:
        folder: to write into.
        made: the samples.
        batch: samples of a batch.
        shard: samples of a shard of the store.
        wanted: of the forms: store, pth, npy, arrays, bytes.
    """
    found: dict[str, Reader] = {}
    if "store" in wanted:
        write_store(folder / "store", made, shard)
        found["prx-scale"] = lambda: from_store(folder / "store", made, batch)
    for suffix in ("pth", "npy"):
        if suffix in wanted:
            path = folder / f"{suffix}.tar"
            write_tar(path, made, suffix)
            found[f"webdataset, .{suffix}"] = lambda path=path, suffix=suffix: from_tar(path, made, batch, suffix)
    for kind in ("arrays", "bytes"):
        if kind in wanted:
            path = folder / kind
            write_datasets(path, made, kind)
            found[f"datasets, {kind}"] = lambda path=path, kind=kind: from_datasets(path, made, batch, kind)
    return found

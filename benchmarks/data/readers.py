"""The same job by three packages: from a tar to batches of floats (B, 3, H, W) from -1 to 1, in a shuffled order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from prx_scale.data.decode import Fitted, fit
from prx_scale.data.imagebatches import FitImages, as_floats, stack_images
from prx_scale.data.lanes import order_of
from prx_scale.data.samples import RawSample
from prx_scale.data.sources import open_source
from prx_scale.data.streaming import Share, StreamLoader

BATCH = 64
BUFFER = 1000
"""Samples in the shuffle buffers of the packages that have one."""

Batch = tuple[Tensor, list[str]]
"""Floats (B, 3, H, W) and captions."""


def ours(tar: Path, side: int) -> Iterator[Batch]:
    """prx-scale, in one process."""
    source = open_source(str(tar))
    prepare = FitImages(height=side, width=side)
    stream = StreamLoader(source, order_of(source, 0), Share(batch=BATCH), prepare=prepare, collate=stack_images)
    for batch in stream:
        yield as_floats(batch.pixels), [each["original"] for each in batch.captions]


def webdataset(tar: Path, side: int) -> Iterator[Batch]:
    """The webdataset package with Pillow, as its users have it."""
    return _batches(((plain(image, side), text) for image, text in _from_webdataset(tar, "pil")))


def webdataset_our_decoder(tar: Path, side: int) -> Iterator[Batch]:
    """The webdataset package reads, prx-scale decodes."""
    return _fitted(_from_webdataset(tar, None), side)


def datasets(tar: Path, side: int) -> Iterator[Batch]:
    """Hugging Face datasets, streaming, with Pillow, as its users have it."""
    return _batches(((plain(image, side), text) for image, text in _from_datasets(tar, decode=True)))


def datasets_our_decoder(tar: Path, side: int) -> Iterator[Batch]:
    """Hugging Face datasets reads, prx-scale decodes."""
    return _fitted(((image["bytes"], text) for image, text in _from_datasets(tar, decode=False)), side)


READERS: dict[str, Callable[[Path, int], Iterator[Batch]]] = {
    "prx-scale": ours,
    "webdataset": webdataset,
    "datasets": datasets,
    "webdataset, our decoder": webdataset_our_decoder,
    "datasets, our decoder": datasets_our_decoder,
}

OUR_DECODER = ("webdataset, our decoder", "datasets, our decoder")
"""Readers that differ from prx-scale in reading alone."""


def plain(image: Image.Image, side: int) -> Tensor:
    """What torchvision's Resize (bicubic), CenterCrop, ToTensor and Normalize(0.5, 0.5) do with a Pillow image.

    Args:
        image: of any size.
        side: rows and columns of the result.
    """
    image = image.convert("RGB")
    scale = side / min(image.size)
    width, height = (max(side, int(each * scale)) for each in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    cut = np.array(image.crop((left, top, left + side, top + side)))
    return torch.from_numpy(cut).permute(2, 0, 1).contiguous().float().div_(255).sub_(0.5).div_(0.5)


def _from_webdataset(tar: Path, decoder: str | None) -> Iterator[tuple[Any, Any]]:
    import webdataset as wds

    data = wds.WebDataset(str(tar), shardshuffle=False, empty_check=False).repeat().shuffle(BUFFER)
    if decoder is None:
        yield from ((image, text.decode()) for image, text in data.to_tuple("jpg", "txt"))
    else:
        yield from data.decode(decoder).to_tuple("jpg", "txt")


def _from_datasets(tar: Path, decode: bool) -> Iterator[tuple[Any, str]]:
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    data = load_dataset("webdataset", data_files=[str(tar)], split="train", streaming=True)
    data = data.cast_column("jpg", ImageFeature(decode=decode)).shuffle(seed=0, buffer_size=BUFFER)
    for epoch in itertools.count():
        data.set_epoch(epoch)
        yield from ((each["jpg"], each["txt"]) for each in data)


def _batches(pairs: Iterable[tuple[Tensor, str]]) -> Iterator[Batch]:
    for chunk in _chunks(pairs):
        yield torch.stack([image for image, _ in chunk]), [text for _, text in chunk]


def _fitted(pairs: Iterable[tuple[bytes, str]], side: int) -> Iterator[Batch]:
    for chunk in _chunks(pairs):
        images = [fit(RawSample(key="", image=data), side, side) for data, _ in chunk]
        pixels = np.stack([image.pixels for image in images if isinstance(image, Fitted)])
        yield as_floats(torch.from_numpy(pixels)), [text for _, text in chunk]


def _chunks(pairs: Iterable[Any]) -> Iterator[list[Any]]:
    pending = iter(pairs)
    while chunk := list(itertools.islice(pending, BATCH)):
        yield chunk

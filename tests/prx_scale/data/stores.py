"""Small stores with known content, made without encoders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from prx_scale.data.buckets import Bucket
from prx_scale.data.samples import Skip, Skipped
from prx_scale.data.store.finishing import begin, finish
from prx_scale.data.store.packing import pack
from prx_scale.data.store.recipe import Captions, DataName, Encoder, Preprocessing, Recipe, Resolution
from prx_scale.data.store.shards import ShardBuilder, TableRow, TextRows
from prx_scale.data.store.storage import Storage
from prx_scale.models.encoders.identity import EncoderIdentity
from prx_scale.models.encoders.image.base import statistics_of
from prx_scale.models.encoders.image.moments import Moments
from prx_scale.models.encoders.registry import ImageSpec, TextSpec

BUCKETS = (Bucket(height=48, width=32), Bucket(height=32, width=32), Bucket(height=32, width=48))
IMAGE = ImageSpec(name="kl-4", kind="kl", channels=4, downsampling=8, normalisation="scale")
FLUX2 = ImageSpec(name="flux2", kind="flux2", channels=4, downsampling=8, normalisation="batch norm")
"""As stores had it before they kept its statistics."""
CLIP = TextSpec(name="clip-l", kind="clip", tokens=77, width=8, pooled=5)
GEMMA = TextSpec(name="gemma", kind="gemma", tokens=9, width=10, masked=True)


def recipe(
    samples: int = 23, *, latents: Storage = "bf16", states: Storage = "bf16", pooled_only: bool = False, shard: int = 8
) -> Recipe:
    """A recipe of two text encoders, three buckets and two kinds of captions."""
    return Recipe(
        data=DataName(spec="somewhere", fingerprint="f" * 16, samples=samples),
        image=Encoder(spec=IMAGE, identity=EncoderIdentity(name="kl-4", kind="kl", files={"model/a": "1"})),
        text=tuple(
            Encoder(spec=spec, identity=EncoderIdentity(name=spec.name, kind=spec.kind))
            for spec in ((CLIP,) if pooled_only else (CLIP, GEMMA))
        ),
        resolutions=(Resolution(image_size=32, buckets=BUCKETS),),
        preprocessing=Preprocessing(stretch=0.05, max_upscaling=4 / 3, max_pixels=1 << 26, min_pixels=64, max_ratio=8),
        captions=Captions(kinds=("original", "long")),
        latents=latents,
        states=states,
        pooled_only=pooled_only,
        shard_size=shard,
    )


def with_image(wanted: Recipe, spec: ImageSpec) -> Recipe:
    """The recipe of latents of another encoder."""
    return replace(wanted, image=replace(wanted.image, spec=spec))


def moments(number: int, bucket: int) -> torch.Tensor:
    """What the latents of a sample are, (2C, h, w)."""
    size = BUCKETS[bucket]
    generator = torch.Generator().manual_seed(number)
    return torch.randn(8, size.height // 8, size.width // 8, generator=generator)


def bucket_of(number: int) -> int:
    """The bucket of a sample; every fifth has none."""
    return -1 if number % 5 == 4 else number % 3


def kinds_of(number: int) -> tuple[str, ...]:
    """The kinds of captions of a sample."""
    return (("original", "long"), ("original",), ("long",))[number % 3]


def text_states(text: str, spec: TextSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """Token states (l, D) and pooled state (P,) of a caption."""
    generator = torch.Generator().manual_seed(hash_of(text) + spec.width)
    length = hash_of(text) % (spec.tokens + 1) if spec.masked else spec.tokens
    return torch.randn(length, spec.width, generator=generator), torch.randn(spec.pooled, generator=generator)


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return sum((place + 1) * ord(letter) for place, letter in enumerate(text))


def caption(number: int, kind: str) -> str:
    """The caption of a sample; some share theirs."""
    return f"{kind} {number % 11}"


def make(folder: Path, wanted: Recipe | None = None, first: int = 0) -> Recipe:
    """Write a whole store; the latents and captions of its sample n are those of n + first elsewhere."""
    wanted = wanted or recipe()
    begin(folder, wanted)
    for shard in range(wanted.shards):
        build(wanted, shard, first).write(folder)
    assert finish(folder, wanted)
    return wanted


def build(wanted: Recipe, shard: int, first: int = 0) -> ShardBuilder:
    """The content of one shard; samples have all kinds of captions where none of those of `kinds_of` is wanted."""
    builder = ShardBuilder(wanted, shard)
    rows = {"": builder.add_texts(_rows(wanted, [""]), 1)}
    for number in range(*wanted.range(shard)):
        kinds = kinds_of(number) if "original" in wanted.captions.kinds else wanted.captions.kinds
        captions = {kind: caption(first + number, kind) for kind in kinds}
        left_out = None
        if bucket_of(number) < 0:
            left_out = str(Skip.CORRUPT_IMAGE)
            builder.skipped.append(Skipped(key=f"k{number}", shard="s", reason=Skip.CORRUPT_IMAGE))
        else:
            _add(builder, wanted, number, first)
            for kind, text in captions.items():
                if text not in rows:
                    rows[text] = builder.add_texts(_rows(wanted, [text]), 1)
                builder.set_caption(number, wanted.captions.kinds.index(kind), rows[text])
        builder.rows[number] = TableRow(key=f"k{number}", size=(64, 64), captions=captions, left_out=left_out)
    return builder


def _add(builder: ShardBuilder, wanted: Recipe, number: int, first: int) -> None:
    values = moments(first + number, bucket_of(number))[None]
    mean, std = values.split(4, dim=1)
    builder.add_latents(
        32,
        bucket_of(number),
        [number],
        pack(values, wanted.latents, 2, "latents"),
        [(64, 64, 0, number, 32, 32)],
        statistics_of(Moments(mean=mean, std=std)),
    )


def _rows(wanted: Recipe, texts: list[str]) -> dict[str, TextRows]:
    found: dict[str, TextRows] = {}
    for spec in wanted.text_specs:
        states = [text_states(text, spec) for text in texts]
        tokens = torch.cat([each for each, _ in states]) if spec.masked else torch.stack([each for each, _ in states])
        found[spec.name] = TextRows(
            tokens=None if wanted.pooled_only else pack(tokens, wanted.states, 1, "tokens"),
            pooled=pack(torch.stack([each for _, each in states]), wanted.states, 1, "pooled") if spec.pooled else None,
            lengths=np.array([len(each) for each, _ in states], dtype=np.int64) if spec.masked else None,
        )
    return found

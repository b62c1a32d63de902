"""The [encoding] table of a study file: how images and captions are encoded while a run trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from prx_scale.tables import bounded


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """[encoding]: what `prx-scale encode` has as options, and how many processes encode.

    What decides batches is part of `[data] content`, and so of a run's id, but not where encoders are.
    """

    image_encoder: str = "sd3"
    """NAME or NAME=SOURCE, a folder or hub id of its weights; a relative folder is taken from the study file."""
    text_encoders: tuple[str, ...] = ()
    """NAME or NAME=SOURCE of each."""
    captions: tuple[str, ...] = ()
    """KIND=FIELD: where captions of a kind are."""
    image: str = ""
    """Field of the image, where it is not one of the usual names."""
    label: str = ""
    """Field of the class."""
    key: str = ""
    """Field that names a sample in its shard, in Parquet files and folders."""
    no_captions: bool = False
    """Take samples without caption and class too."""
    class_templates: tuple[str, ...] = ()
    """A caption of an image's class, of the kind class; beside those of `captions`, else alone."""
    classes: str = ""
    """File with the names of the classes; resolved against the study file."""
    filter: str = ""
    """Folder of a filter's result; resolved against the study file."""
    buckets: Literal["square", "prx", "qwen-image", "sd3"] = "square"
    """Rule of the aspect-ratio buckets."""
    bucket_step: int = bounded(0, low=0)
    """Pixels between sizes; 0 is the rule's own."""
    min_ratio: float = bounded(0.5, low=0.01, high=1)
    """Smallest width / height of prx and sd3."""
    max_ratio: float = bounded(2.0, low=1, high=100)
    """Largest."""
    ratios: tuple[str, ...] = ()
    """Width:height of qwen-image; none is its nine."""
    stretch: float = bounded(0.05, low=0, high=1)
    """An image whose ratio differs from its bucket's by no more than this share is stretched, others are cropped."""
    max_upscaling: float = bounded(4 / 3, low=1)
    """Images that would have to grow by more along a side are left out of an image size."""
    patch: int = bounded(2, low=1)
    """Latents along a side of a patch; sides of buckets are whole patches."""
    cleaning: Literal["none", "light"] = "none"
    """Of captions."""
    dtype: Literal["bf16", "fp16", "fp8"] = "bf16"
    """Number type that latents are handed over in, and rounded to."""
    text_dtype: Literal["", "bf16", "fp16", "fp8"] = ""
    """Of text states, where they differ."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """That encoders compute in."""
    survey: Literal["heads", "images"] = "heads"
    """What is looked at beforehand: the heads of image files, or whole images, which finds all that are damaged."""
    processes: int = field(default=1, metadata={"low": 1, "place": True})
    """That encode for each process that trains."""
    ahead: int = field(default=2, metadata={"low": 1, "place": True})
    """Finished micro-batches that each may be ahead."""
    threads: int = field(default=0, metadata={"low": 0, "place": True})
    """Of each, to decode and, on a CPU, to encode; 0 shares out the cores."""
    device: str = field(default="", metadata={"place": True})
    """cpu, cuda, cuda:1; empty is the GPU of the process that trains, where there is one."""
    max_skipped: float = field(default=0.05, metadata={"low": 0, "high": 1, "place": True})
    """Share of the samples that may be unusable before training ends."""


TEXT_KEYS = ("text_encoders", "cleaning", "text_dtype", "precision")
"""What counts where latents come out of a store, beside the keys that decide no batch."""

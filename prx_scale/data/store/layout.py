"""Names in a store.

    index.json             what is in it, written when all shards are there
    recipe.json            what its content depends on, written first
    skipped.jsonl          what was left out, and why
    buckets-256.npy        (N,) bucket of each sample at 256 pixels, -1 where it has none
    kinds.npy              (N,) which kinds of captions each sample has, a bit for each
    shards/000/000012.safetensors, .parquet, .json

The .json of a shard is its record: the shard counts when that is there, and is written last.
"""

from __future__ import annotations

from pathlib import Path

FORMAT = "prx-scale store"
VERSION = 1

INDEX = "index.json"
RECIPE = "recipe.json"
SKIPPED = "skipped.jsonl"
KINDS = "kinds.npy"
_FOLDER = 1000
"""Shards in a folder."""


def shard_file(folder: Path, shard: int, suffix: str) -> Path:
    """A file of a shard.

    Args:
        folder: of the store.
        shard: its number.
        suffix: safetensors, parquet or json.
    """
    return folder / "shards" / f"{shard // _FOLDER:03d}" / f"{shard:06d}.{suffix}"


def buckets_file(folder: Path, image_size: int) -> Path:
    """The buckets of all samples at one resolution.

    Args:
        folder: of the store.
        image_size: the resolution.
    """
    return folder / f"buckets-{image_size}.npy"


def latents(image_size: int, bucket: str) -> str:
    """Tensor of the latents of a bucket."""
    return f"latents.{image_size}.{bucket}"


def tokens(encoder: str) -> str:
    """Tensor of token states: (R, L, D), or (T, D), one caption after another, where padding is not kept."""
    return f"text.{encoder}.tokens"


def starts(encoder: str) -> str:
    """Tensor of first tokens, and the end, (R + 1,), where padding is not kept."""
    return f"text.{encoder}.starts"


def pooled(encoder: str) -> str:
    """Tensor of pooled states (R, P)."""
    return f"text.{encoder}.pooled"


def exponents(tensor: str) -> str:
    """Tensor of the exponents of an fp8 tensor."""
    return f"{tensor}.exponents"


def sample_bucket(image_size: int) -> str:
    """Tensor of the shard's samples: bucket (n,)."""
    return f"sample.{image_size}.bucket"


def sample_row(image_size: int) -> str:
    """Tensor of the shard's samples: row among the latents of its bucket (n,), -1 where it has none."""
    return f"sample.{image_size}.row"


def sample_conditioning(image_size: int) -> str:
    """Tensor of the shard's samples: (n, 6)."""
    return f"sample.{image_size}.conditioning"


SAMPLE_CAPTION = "sample.caption"
"""Tensor of the shard's samples: row of the text states of each kind of caption (n, K), -1 where it has none. Row 0 is
the empty caption."""

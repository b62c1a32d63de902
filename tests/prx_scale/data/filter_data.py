"""Pictures, shards and a tiny CLIP with random weights for tests of filters, all made on the spot."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from prx_scale.data.filters.base import Caption, Scorer
from prx_scale.data.filters.cuts import parse_cut
from prx_scale.data.filters.plain import hash_scorer, length_scorer, size_scorer, source_scorer
from prx_scale.data.filters.scoretable import Scores
from prx_scale.data.filters.scoring import score
from prx_scale.data.filters.verdict import Rules, judge
from prx_scale.data.filters.weights import parse_weight
from prx_scale.data.filters.writing import Result
from prx_scale.data.sources import Fields, Source, open_source
from tests.prx_scale.data.made import encoded, write_tar

WORDS = ("red", "blue", "green", "old", "small", "house", "tree", "river", "cat", "on", "under", "the", "hill")
TRUNCATED, GARBAGE, COPY = 3, 4, 9
"""Places of each shard that are cut off, no image, and a smaller copy of the one before."""

FIELDS = Fields(scores={"watermark": "json.watermark", "cluster": "json.cluster"})
CUTS = ("caption_words>=4", "watermark<0.8 or none", "duplicate_of==", "min_side>=q0.3")


def picture(seed: int, width: int = 96, height: int = 80) -> Image.Image:
    """A smooth picture like no other: waves of some directions and lengths in three colours, and a few boxes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    image = np.zeros((height, width, 3))
    for _ in range(12):
        u, v = rng.normal(0, 2.5, 2)
        wave = np.cos(2 * np.pi * (u * x + v * y) + rng.uniform(0, 2 * np.pi))
        image += wave[..., None] * rng.normal(0, 1, 3)
    for _ in range(3):
        left, above = rng.uniform(0, 0.8, 2)
        image[(x > left) & (x < left + 0.2) & (y > above) & (y < above + 0.2)] += rng.normal(0, 3, 3)
    image = (image - image.min()) / (image.max() - image.min())
    return Image.fromarray((255 * image).astype(np.uint8))


def caption(seed: int, words: int) -> str:
    """Some words."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def sample_image(seed: int, place: int) -> bytes:
    """The image of one place of a shard; see `write_shards`."""
    if place % 10 == COPY:
        smaller = picture(seed - 1, 150, 120).resize((100, 80), Image.Resampling.LANCZOS)
        return encoded(smaller, quality=85)
    rng = np.random.default_rng(seed)
    size = (150, 120) if place % 10 == COPY - 1 else (int(rng.integers(70, 160)), int(rng.integers(70, 160)))
    image = encoded(picture(seed, *size), quality=92)
    return image[: len(image) // 2] if place == TRUNCATED else b"no image" if place == GARBAGE else image


def sample_told(seed: int, place: int) -> Mapping[str, object]:
    """What the JSON file of a place says: a cluster, and except for every seventh a score of watermarks."""
    watermark = round(float(np.random.default_rng(seed).uniform()), 3)
    return {"cluster": place % 4, **({"watermark": watermark} if place % 7 else {})}


def write_shards(folder: Path, shards: int = 3, each: int = 20) -> Path:
    """Shards of pictures, some copies, some damaged, with scores of their own, and captions of 1, 2, 3 ... words."""
    for shard in range(shards):
        files: list[tuple[str, bytes]] = []
        for place in range(each):
            seed = 1000 * shard + place
            told = json.dumps(sample_told(seed, place)).encode()
            files += [(f"{place:05d}.jpg", sample_image(seed, place)), (f"{place:05d}.json", told)]
            files += [(f"{place:05d}.txt", caption(seed, 1 + place).encode())]
        write_tar(folder / f"{shard:03d}.tar", files)
    return folder


def scored(source: Source, scorers: list[Scorer], folder: Path, **options: object) -> Scores:
    """The scores of a source, after scoring it into a folder."""
    score(source, scorers, folder, **options)  # type: ignore[arg-type]
    types = {name: kind for scorer in scorers for name, kind in scorer.columns.items()}
    counts = tuple(source.counts().tolist())
    return Scores(folder=folder, shards=source.shards, counts=counts, types=types)


def filtered(
    folder: Path, cuts: tuple[str, ...] = CUTS, weights: tuple[str, ...] = (), distance: int | None = 4
) -> Result:
    """A filter of three shards, made in a folder as data/ and out/."""
    data = folder / "data"
    source = open_source(str((data if data.exists() else write_shards(data)) / "*.tar"), FIELDS)
    scorers: list[Scorer] = [size_scorer(), length_scorer(Caption()), source_scorer(FIELDS.scores), hash_scorer()]
    scores = scored(source, scorers, folder / "out" / "scores")
    rules = Rules(
        cuts=tuple(map(parse_cut, cuts)), weights=tuple(parse_weight(each) for each in weights), distance=distance
    )
    made_by = {"version": "0", "created": "2026-01-01T00:00:00+00:00", "command": "prx-scale filter"}
    verdict = judge(scores, rules)
    return Result(source=source, scorers=scorers, scores=scores, rules=rules, verdict=verdict, provenance=made_by)


def write_clip(folder: Path, *, projection: int = 768, image_size: int = 32) -> Path:
    """Write a tiny CLIP with random weights, its tokenizer and its image processor, as CLIP models are published."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

    torch.manual_seed(0)
    letters = ["!", *(each for each in sorted(ByteLevel.alphabet()) if each != "!")]
    vocabulary = [*letters, *(each + "</w>" for each in letters), "<|startoftext|>", "<|endoftext|>"]
    ids = {token: number for number, token in enumerate(vocabulary)}
    ends = {"bos_token_id": ids["<|startoftext|>"], "eos_token_id": ids["<|endoftext|>"]}
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = CLIPTextConfig(vocab_size=len(vocabulary), **small, **ends)
    vision = CLIPVisionConfig(**small, image_size=image_size, patch_size=8)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=projection)
    CLIPModel(config).eval().save_pretrained(folder)
    CLIPTokenizer(vocab=ids, merges=[], model_max_length=77).save_pretrained(folder)
    size, crop = {"shortest_edge": image_size}, {"height": image_size, "width": image_size}
    CLIPImageProcessor(size=size, crop_size=crop).save_pretrained(folder)
    return folder


def write_predictor(path: Path, *, width: int = 768) -> Path:
    """Write a predictor with random weights under the names of LAION's improved one."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    tensors: dict[str, torch.Tensor] = {}
    for layer, (wide, narrow) in zip((0, 2, 4, 6, 7), itertools.pairwise((width, 1024, 128, 64, 16, 1)), strict=True):
        linear = torch.nn.Linear(wide, narrow)
        tensors[f"layers.{layer}.weight"] = linear.weight.detach()
        tensors[f"layers.{layer}.bias"] = linear.bias.detach()
    save_file(tensors, path)
    return path

"""Pictures, tars and a tiny CLIP with random weights for tests of filters, all made on the spot."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = ("red", "blue", "green", "old", "small", "house", "tree", "river", "cat", "on", "under", "the", "hill")


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
        inside = (x > left) & (x < left + 0.2) & (y > above) & (y < above + 0.2)
        image[inside] += rng.normal(0, 3, 3)
    image = (image - image.min()) / (image.max() - image.min())
    return Image.fromarray((255 * image).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", quality: int = 92) -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, quality=quality)
    return buffer.getvalue()


def caption(seed: int, words: int) -> str:
    """Some words."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def write_tar(path: Path, samples: Sequence[tuple[bytes, str, Mapping[str, object]]]) -> Path:
    """Write a WebDataset shard.

    Args:
        path: the tar.
        samples: image file, caption and what its JSON says, of each.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, (image, text, told) in enumerate(samples):
            for suffix, data in (("jpg", image), ("txt", text.encode()), ("json", json.dumps(told).encode())):
                member = tarfile.TarInfo(f"{number:05d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def write_shards(folder: Path, shards: int = 3, each: int = 20) -> Path:
    """Shards of different pictures with copies among them, a truncated and a damaged one, and scores of their own.

    Every tenth sample is a smaller copy of the one before; the fourth of each shard is cut off, the fifth no image.
    """
    for shard in range(shards):
        samples: list[tuple[bytes, str, Mapping[str, object]]] = []
        for place in range(each):
            seed = 1000 * shard + place
            rng = np.random.default_rng(seed)
            width, height = int(rng.integers(70, 160)), int(rng.integers(70, 160))
            image = encoded(picture(seed, width, height))
            if place % 10 == 9:
                image = encoded(picture(seed - 1, 150, 120).resize((100, 80), Image.Resampling.LANCZOS), quality=70)
            if place % 10 == 8:
                image = encoded(picture(seed, 150, 120))
            image = image[: len(image) // 2] if place == 3 else b"no image at all" if place == 4 else image
            told: dict[str, object] = {"cluster": place % 4, "watermark": round(float(rng.uniform()), 3)}
            if place % 7 == 0:
                del told["watermark"]
            samples.append((image, caption(seed, 1 + place), told))
        write_tar(folder / f"{shard:03d}.tar", samples)
    return folder


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


def predictor(folder: Path, *, width: int = 768) -> Path:
    """Write a predictor with random weights in the layout of LAION's improved one."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    sizes = (width, 1024, 128, 64, 16, 1)
    tensors: dict[str, torch.Tensor] = {}
    for layer, (wide, narrow) in zip((0, 2, 4, 6, 7), itertools.pairwise(sizes), strict=True):
        linear = torch.nn.Linear(wide, narrow)
        tensors[f"layers.{layer}.weight"] = linear.weight.detach() * 3
        tensors[f"layers.{layer}.bias"] = linear.bias.detach() + 0.5
    path = folder / "predictor.safetensors"
    save_file(tensors, path)
    return path

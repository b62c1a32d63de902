"""A study that is told sizes, on a store that was encoded from images of many sizes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from prx_scale.cli import run
from tests.prx_scale.models.autoencoder_folders import write_kl
from tests.prx_scale.models.encoder_folders import write_clip

STUDY = """
[study]
name = "told"
[model]
depth = 1
width = 128
patch = 1
position_grid = 10
{model}
[data]
dataset = "store"
path = "../store"
image_size = 64
heldout = 0.2
[training]
steps = 12
batch = 4
lr = 3e-3
warmup = 2
[validation]
every = 4
images = 5
levels = 4
[checkpoint]
every = 4
[logging]
every = 1
"""
TOLD = "size_conditioning = true"
IMAGES = 48


def size_of(number: int) -> tuple[int, int]:
    """Height and width of an image: no two have the same, and they go to three buckets in turns."""
    return ((66 + number, 64 + number), (118 + 2 * number, 64 + number), (70 + number, 150 + 2 * number))[number % 3]


def write_images(folder: Path) -> Path:
    """A tar of noise of many sizes, each with a caption."""
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number in range(IMAGES):
            coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            height, width = size_of(number)
            Image.fromarray(coarse).resize((width, height)).save(buffer, "PNG")
            for name, data in ((f"{number}.png", buffer.getvalue()), (f"{number}.txt", b"a cat %d" % (number % 7))):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return folder


def write_store(folder: Path) -> Path:
    """Encode such images with tiny encoders.

    Returns:
        The store, in a folder that studies can be written beside.
    """
    models = folder / "models"
    write_kl(models / "vae", channels=16)
    write_clip(models, "", width=16, projection=16, pad="<|endoftext|>", identity=True)
    words = ["encode", str(write_images(folder / "images")), "--out", str(folder / "store"), "--resolution", "64"]
    words += ["--image-encoder", f"sd3={models}", "--text-encoders", f"clip-l={models}", "--captions", "original=txt"]
    words += ["--buckets", "prx", "--bucket-step", "16", "--min-ratio", "0.6", "--max-ratio", "1.7"]
    assert run(words) == 0
    return folder / "store"


def write_study(folder: Path, *, model: str = TOLD, more: str = "") -> Path:
    """Write a study.toml into a folder of its own, beside the store.

    Returns:
        The study's folder.
    """
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text(STUDY.format(model=model) + more)
    return folder

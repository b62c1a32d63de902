"""Tiny encoders, and data that tests encode with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from made import encoded, jpeg, pixels, write_tar

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tests" / "prx_scale" / "models"))

from autoencoder_folders import write_kl  # noqa: E402
from encoder_folders import write_sd3, write_t5gemma  # noqa: E402

SIZES = ((64, 64), (96, 64), (64, 96), (66, 64), (20, 20), (120, 70))
"""Height and width of images in turns; the fifth is too small for 64 pixels."""


def write_encoders(folder: Path) -> Path:
    """SD3's encoders and a T5Gemma, tiny."""
    write_kl(folder / "vae", channels=16)
    write_sd3(folder)
    write_t5gemma(folder / "t5gemma", width=48)
    return folder


def write_data(folder: Path, samples: int = 26, shards: int = 3) -> Path:
    """Tars of images of several sizes; the eighth cannot be decoded, and every third has a second caption."""
    for shard in range(shards):
        files = [file for n in range(shard, samples, shards) for file in _sample(n)]
        write_tar(folder / f"{shard:04d}.tar", files)
    return folder


def _sample(number: int) -> list[tuple[str, bytes]]:
    height, width = SIZES[number % len(SIZES)]
    image = jpeg(height, width, seed=number) if number % 2 else encoded(pixels(height, width, number), "PNG")
    if number == 7:
        image = image[: len(image) // 2]
    files = [(f"n{number}.{'jpg' if number % 2 else 'png'}", image), (f"n{number}.txt", f"a cat {number % 9}".encode())]
    if number % 3 == 0:
        files.append((f"n{number}.long", f"a photo of a red cat on the table {number}".encode()))
    return files


def write_bad_data(folder: Path, samples: int, every: int) -> Path:
    """A tar of images that are too small to be encoded, but for the second; some are none."""
    small = encoded(pixels(8, 8), "PNG")
    files: list[tuple[str, bytes]] = []
    for number in range(samples):
        image = b"no image at all" if number % every == 0 else small if number != 1 else jpeg(64, 64)
        files += [(f"n{number}.png", image), (f"n{number}.txt", b"a"), (f"n{number}.long", b"b")]
    write_tar(folder / "0.tar", files)
    return folder


def with_other_weights(folder: Path, to: Path) -> Path:
    """The same autoencoder, one number of it changed."""
    shutil.copytree(folder, to)
    file = to / "diffusion_pytorch_model.safetensors"
    changed = bytearray(file.read_bytes())
    changed[-2] ^= 1
    file.write_bytes(changed)
    return to


def words(
    data: Path, out: Path, models: Path, *more: str, text: Sequence[str] = ("clip-l", "clip-g", "t5")
) -> list[str]:
    """The command line of the verb, for tiny encoders at 64 pixels."""
    sources = {"t5gemma": models / "t5gemma"}
    encoders = [f"{name}={sources.get(name, models)}" for name in text]
    return [
        *("encode", str(data), "--out", str(out), "--image-encoder", f"sd3={models}", "--text-encoders", *encoders),
        *("--captions", "original=txt", "--captions", "long=long", "--resolution", "64"),
        *("--buckets", "prx", "--bucket-step", "16", "--shard-size", "5", "--max-skipped", "0.1", *more),
    ]


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """The verb in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "prx_scale", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def content(folder: Path) -> dict[str, bytes]:
    """All files of a store."""
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def numbers(values: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Numbers of samples."""
    return np.array(values, dtype=np.int64)

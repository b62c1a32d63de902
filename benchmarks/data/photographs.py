"""Shards of pictures with the statistics of photographs, made on the spot; and of real ones, where some are at hand."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZES = ((512, 512), (512, 768), (768, 512), (640, 960), (1024, 683), (500, 375), (800, 1200), (1024, 1024))
"""Height and width, as those of web images with a longer side of up to 1200 pixels."""
QUALITY = 90


def texture(side: int, seed: int) -> NDArray[np.uint8]:
    """Coloured noise whose amplitude falls as 1 / frequency, as it does in photographs (Field 1987), with edges.

    Args:
        side: rows and columns.
        seed: names it.
    """
    draw = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1
    # Brightness carries most of the contrast, colour the rest.
    planes = [_spread(draw, frequency, side) * weight for weight in (45, 12, 12)]
    luma, red, blue = planes[0] + 120, planes[1], planes[2]
    mixed = np.stack([luma + red, luma - 0.5 * red - 0.2 * blue, luma + blue], axis=-1)
    image = Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))
    painter = ImageDraw.Draw(image, "RGBA")
    for _ in range(side // 16):
        left, top = draw.integers(0, side, 2).tolist()
        wide, high = draw.integers(10, side // 4, 2).tolist()
        colour = (*draw.integers(0, 256, 3).tolist(), int(draw.integers(40, 200)))
        shape = painter.ellipse if draw.random() < 0.5 else painter.rectangle
        shape((left, top, left + wide, top + high), fill=colour)
    return np.array(image)


def _spread(draw: np.random.Generator, frequency: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    phases = draw.normal(size=frequency.shape) + 1j * draw.normal(size=frequency.shape)
    plane = np.fft.irfft2(phases / frequency, s=(side, side))
    return (plane - plane.mean()) / plane.std()


def jpegs(count: int, seed: int = 0) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Pieces of textures as JPEG files, with their heights and widths.

    Args:
        count: how many.
        seed: names them.
    """
    draw, sheet = np.random.default_rng(seed), np.empty((0, 0, 3), dtype=np.uint8)
    for number in range(count):
        if number % 64 == 0:
            sheet = texture(2048, seed + number)
        height, width = SIZES[number % len(SIZES)]
        top, left = int(draw.integers(2048 - height)), int(draw.integers(2048 - width))
        buffer = io.BytesIO()
        Image.fromarray(sheet[top : top + height, left : left + width]).save(buffer, "JPEG", quality=QUALITY)
        yield buffer.getvalue(), (height, width)


def write_made(path: Path, count: int) -> str:
    """Write a tar of made pictures with captions.

    Returns:
        What it holds, in words.
    """
    size = pixels = 0
    with tarfile.open(path, "w") as tar:
        for number, (data, (height, width)) in enumerate(jpegs(count)):
            told = json.dumps({"height": height, "width": width}).encode()
            for suffix, content in (("jpg", data), ("json", told), ("txt", f"picture {number}".encode())):
                _add(tar, f"{number:06d}.{suffix}", content)
            size, pixels = size + len(data), pixels + height * width
    return (
        f"{count} made pictures: noise of amplitude 1/f with edges, {pixels / count / 1e6:.2f} megapixels and "
        f"{size / count / 1000:.0f} kB on average, JPEG of quality {QUALITY}"
    )


def write_repeated(path: Path, original: Path, times: int) -> str:
    """Write a tar with the samples of another several times, under new names.

    Returns:
        What it holds, in words.
    """
    images = size = 0
    with tarfile.open(original) as old, tarfile.open(path, "w") as tar:
        files = [(member.name, old.extractfile(member).read()) for member in old if member.isfile()]  # type: ignore[union-attr]
        for again in range(times):
            for name, content in files:
                _add(tar, f"{again:03d}-{name}", content)
    for name, content in files:
        if name.endswith("jpg"):
            images, size = images + 1, size + len(content)
    return f"{images} photographs of CC12M, {size / images / 1000:.0f} kB on average, {times} times"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))

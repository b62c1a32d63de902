"""Images and datasets that tests make on the spot."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prx_scale.data.samples import RawSample

CC12M = Path(__file__).parents[4] / "shared" / "data" / "cc12m_test" / "cc12m-train-0000.tar"


def pixels(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth random picture (H, W, 3), which JPEG keeps nearly as it is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: NDArray[Any] | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(height: int = 24, width: int = 32, seed: int = 0) -> bytes:
    """A small picture as JPEG."""
    return encoded(pixels(height, width, seed), quality=90)


def sample(image: bytes) -> RawSample:
    """A sample of an image file."""
    return RawSample(key="a.tar/0", image=image, captions={"original": "a picture"}, shard="a.tar")


def write_tar(path: Path, files: Iterable[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar of files in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample_files(name: str, seed: int, extra: Mapping[str, Any] | None = None) -> list[tuple[str, bytes]]:
    """The three files of a WebDataset sample."""
    told = json.dumps({"caption": f"long {name}", "width": 32, "height": 24, **(extra or {})})
    return [(f"{name}.jpg", jpeg(seed=seed)), (f"{name}.json", told.encode()), (f"{name}.txt", name.encode())]


def write_shards(folder: Path, counts: Iterable[int]) -> list[Path]:
    """Tars 0000.tar, 0001.tar ... with so many samples each; the n-th of shard s is called s-n."""
    return [
        write_tar(
            folder / f"{shard:04d}.tar",
            [file for n in range(count) for file in sample_files(f"{shard}-{n}", shard * 100 + n)],
        )
        for shard, count in enumerate(counts)
    ]

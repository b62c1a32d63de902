"""Thousands of damaged files: each is decoded or skipped with a reason; none crashes, hangs or is read past its end.

The cases are the same every time. PRX_FUZZ multiplies their number.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prx_scale.data.decode import Fitted, Limits, fit, open_image
from prx_scale.data.samples import RawSample, Skip, Skipped
from prx_scale.data.sources.fields import Fields
from prx_scale.data.sources.tarfiles import BLOCK
from prx_scale.data.sources.tars import TarSource
from tests.prx_scale.data.made import encoded, pixels, sample, sample_files, write_tar

TIMES = int(os.environ.get("PRX_FUZZ", "1"))
LIMITS = Limits(max_pixels=1 << 22)
SLOWEST = 2.0


def originals() -> dict[str, bytes]:
    """One of each kind that decodes by a way of its own."""
    picture = pixels(24, 40, seed=2)
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "words"
    frames = [Image.fromarray(noise), Image.fromarray(picture)]
    clear = Image.fromarray(np.dstack([picture, noise[..., 0]]))
    return {
        "jpeg": encoded(picture, exif=exif),
        "progressive jpeg": encoded(noise, progressive=True),
        "cmyk jpeg": encoded(Image.fromarray(picture).convert("CMYK"), "JPEG"),
        "png": encoded(picture, "PNG", exif=exif),
        "palette png": encoded(Image.fromarray(picture).convert("P"), "PNG", transparency=3),
        "16-bit png": encoded(Image.fromarray(noise[..., 0].astype(np.uint16) * 250), "PNG"),
        "clear png": encoded(clear, "PNG"),
        "webp": encoded(picture, "WEBP", exif=exif),
        "lossless webp": encoded(clear, "WEBP", lossless=True),
        "animated webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    }


def damaged(data: bytes, draw: np.random.Generator) -> bytes:
    """A file with bits turned, parts lost, doubled or overwritten, half of them near its start, where headers are."""
    found = bytearray(data)
    for _ in range(int(draw.integers(1, 4))):
        if not found:
            break
        reach = len(found) if draw.random() < 0.5 else min(len(found), 200)
        at, length = int(draw.integers(reach)), int(draw.integers(1, 9))
        match int(draw.integers(7)):
            case 0:
                found[at] ^= 1 << int(draw.integers(8))
            case 1:
                found[at : at + length] = draw.bytes(length)
            case 2:
                del found[at:]
            case 3:
                del found[at : at + length]
            case 4:
                found[at:at] = found[at : at + 50 * length]
            case 5:
                found[at : at + length] = bytes([0xFF]) * length
            case _:
                found[at : at + length] = bytes(length)
    return bytes(found)


def lying(kind: str, data: bytes, draw: np.random.Generator) -> bytes:
    """A file whose header names another size, with checksums that are right."""
    high, wide = (int(draw.choice([0, 1, 3, 25, 39, 1000, 2047, 9999, 65535])) for _ in range(2))
    found = bytearray(data)
    if "jpeg" in kind:
        at = max(found.find(mark) for mark in (b"\xff\xc0", b"\xff\xc2")) + 5
        found[at : at + 4] = struct.pack(">HH", high, wide)
    elif "png" in kind:
        found[16:24] = struct.pack(">II", wide, high)
        found[24] = int(draw.choice([1, 2, 4, 8, 16]))
        found[29:33] = struct.pack(">I", zlib.crc32(found[12:29]))
    elif kind == "gif":
        found[6:10] = struct.pack("<HH", wide, high)
    elif found[12:16] == b"VP8X":
        found[24:30] = struct.pack("<I", max(wide, 1) - 1)[:3] + struct.pack("<I", max(high, 1) - 1)[:3]
    else:
        found[4:8] = struct.pack("<I", high * wide)
        found[20:30] = draw.bytes(10)
    return bytes(found)


def check_image(data: bytes) -> str:
    """Decode a file in both ways; what became of it."""
    started = time.process_time()
    opened, fitted = open_image(sample(data), LIMITS), fit(sample(data), 16, 16, LIMITS)
    whole = opened if isinstance(opened, Skipped) else opened.pixels()
    assert time.process_time() - started < SLOWEST
    if isinstance(whole, Skipped) or isinstance(fitted, Skipped):
        assert isinstance(whole, Skipped) and isinstance(fitted, Skipped) and whole.reason == fitted.reason
        return str(whole.reason)
    assert not isinstance(opened, Skipped) and isinstance(fitted, Fitted)
    assert whole.dtype == np.uint8 and whole.shape == (*opened.size, 3) and fitted.pixels.shape == (16, 16, 3)
    return "decoded"


@pytest.mark.parametrize("kind", originals())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_images(kind: str) -> None:
    assert fit(sample(originals()[kind]), 16, 16), "libraries are loaded before anything is timed"
    data, draw = originals()[kind], np.random.default_rng(zlib.crc32(kind.encode()))
    assert check_image(data) == "decoded"
    found = Counter(check_image(damaged(data, draw)) for _ in range(220 * TIMES))
    found += Counter(check_image(lying(kind, data, draw)) for _ in range(40 * TIMES))
    assert found.total() == 260 * TIMES and len(found) > 2, "the cases reach more than one end"


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_every_truncation(kind: str) -> None:
    data = originals()[kind]
    found = Counter(check_image(data[:length]) for length in range(len(data)))
    assert found["decoded"] < 24, "only what lies behind the last pixel may be missing"
    assert set(found) <= {"decoded", Skip.TRUNCATED_IMAGE, Skip.CORRUPT_IMAGE, Skip.UNKNOWN_FORMAT}


def lying_tar(data: bytes, draw: np.random.Generator) -> bytes:
    """A tar in which one header has another size, kind or name, with a checksum that is right."""
    found = bytearray(data)
    at = BLOCK * int(draw.integers(len(data) // BLOCK))
    field, value = [
        (slice(124, 136), b"%011o\0" % int(draw.choice([0, 1, 511, 513, 5000, 8**10]))),
        (slice(124, 136), b"\x80" + draw.bytes(11)),
        (slice(124, 136), b"\xff" * 12),
        (slice(156, 157), bytes([int(draw.integers(256))])),
        (slice(0, 100), draw.bytes(100)),
        (slice(0, 9), b"../../a.b"),
    ][int(draw.integers(6))]
    block = found[at : at + BLOCK]
    block[field] = value
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32)
    found[at : at + BLOCK] = block
    return bytes(found)


def check_tar(path: Path, data: bytes) -> Counter[str]:
    """Read all of a tar and decode its images."""
    started = time.process_time()
    path.write_bytes(data)
    source = TarSource(spec=str(path), paths=[str(path)], names=[path.name], fields=Fields())
    items = list(source.samples(0))
    assert len(items) == source.count(0)
    found: Counter[str] = Counter()
    for place, item in enumerate(items):
        if isinstance(item, RawSample):
            assert item.place == place and item.captions["original"] and isinstance(item.image, bytes)
            image = fit(item, 16, 16, LIMITS)
            found["decoded" if isinstance(image, Fitted) else str(image.reason)] += 1
        else:
            found[str(item.reason)] += 1
    assert time.process_time() - started < SLOWEST
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_tars(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRX_SCALE_CACHE", "/dev/null/none")
    files = [file for n in range(4) for file in sample_files(f"folder/{n}", n)]
    data = write_tar(tmp_path / "whole.tar", files).read_bytes()
    draw, found = np.random.default_rng(seed), Counter[str]()
    assert check_tar(tmp_path / "a.tar", data) == {"decoded": 4}
    for _ in range(100 * TIMES):
        found += check_tar(tmp_path / "a.tar", damaged(data, draw))
        found += check_tar(tmp_path / "a.tar", lying_tar(data, draw))
        flipped = bytearray(data)
        for at in draw.integers(len(data), size=20):
            flipped[at] ^= 1 << int(draw.integers(8))
        found += check_tar(tmp_path / "a.tar", bytes(flipped))
    assert found["decoded"] > 300 and found[Skip.CORRUPT_SHARD] > 20 and len(found) > 3

"""Images of every kind: decoded right, or skipped with the right reason."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from prx_scale.data.decode import Fitted, Limits, decode, fit, open_image
from prx_scale.data.headers import jpeg_scans, webp_size
from prx_scale.data.samples import RawSample, Skip, Skipped
from prx_scale.data.sources import open_source
from tests.prx_scale.data.made import CC12M, encoded, jpeg, pixels, sample

PICTURE = pixels(40, 60, seed=3)


def shown(data: bytes, **limits: Any) -> NDArray[np.int64]:
    """The pixels of a file that must decode."""
    found = decode(sample(data), Limits(**limits))
    assert not isinstance(found, Skipped), found
    assert found.dtype == np.uint8 and found.shape[2] == 3
    return found.astype(np.int64)


def reason(data: bytes, **limits: Any) -> Skip:
    """Why a file is skipped, whether it is decoded or fitted."""
    found, fitted = decode(sample(data), Limits(**limits)), fit(sample(data), 8, 8, Limits(**limits))
    assert isinstance(found, Skipped) and isinstance(fitted, Skipped)
    assert found == fitted and (found.key, found.shard) == ("a.tar/0", "a.tar") and found.detail
    return found.reason


def near(data: bytes, picture: NDArray[Any] = PICTURE, most: int = 6) -> bool:
    return bool(np.abs(shown(data) - picture.astype(np.int64)).mean() <= most)


def png(
    raw: bytes, width: int, height: int, depth: int, colour: int, *chunks: tuple[bytes, bytes], interlace: int = 0
) -> bytes:
    """A PNG made by hand, for kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    framed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_plain_images(kind: str) -> None:
    assert near(encoded(PICTURE, kind), most={"PNG": 0, "JPEG": 3, "WEBP": 8}[kind])


def test_progressive_and_subsampled_jpeg() -> None:
    for options in ({"progressive": True}, {"subsampling": 0}, {"subsampling": 2}, {"restart_marker_rows": 1}):
        assert near(encoded(PICTURE, quality=95, **options), most=3)


def test_grey_jpeg_and_png() -> None:
    grey = Image.fromarray(PICTURE).convert("L")
    spread = np.repeat(np.array(grey)[..., None], 3, axis=2)
    assert near(encoded(grey, "PNG"), spread, most=0) and near(encoded(grey, "JPEG", quality=95), spread, most=2)


def test_cmyk_as_adobe_writes_it_inverted_and_as_others_do_not() -> None:
    cmyk = Image.fromarray(PICTURE).convert("CMYK")
    data = encoded(cmyk, "JPEG", quality=95)
    # Pillow writes Adobe's marker, which says that values are inverted; without it they are as they stand.
    assert b"Adobe" in data and near(data, most=3)
    at = data.index(b"\xff\xee")
    bare = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    plain = np.array(Image.open(io.BytesIO(bare)).convert("RGB"))
    assert near(bare, plain, most=0)


def test_ycck() -> None:
    # The same four planes with the mark of YCCK: the decoder has to turn Y, Cb and Cr back.
    data = encoded(Image.fromarray(PICTURE).convert("CMYK"), "JPEG", quality=95)
    at = data.index(b"Adobe")
    ycck = data[: at + 11] + b"\x02" + data[at + 12 :]
    planes = 255 - np.array(Image.open(io.BytesIO(data))).astype(np.float64)
    luma, blue, red, key = np.moveaxis(planes, -1, 0)
    cmy = [
        luma + 1.402 * (red - 128),
        luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
        luma + 1.772 * (blue - 128),
    ]
    expected = np.stack([(255 - np.clip(each, 0, 255)) * key / 255 for each in cmy], axis=-1)
    assert np.abs(shown(ycck) - expected).mean() < 4


def test_16_bit_greys_keep_their_upper_byte() -> None:
    grey = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60) * 27
    data = encoded(Image.fromarray(grey), "PNG")
    assert data[24] == 16
    assert (shown(data) == (grey >> 8)[..., None]).all()


def test_16_bit_colours() -> None:
    deep = PICTURE.astype(">u2") * 257
    raw = b"".join(b"\0" + row.tobytes() for row in deep)
    assert (shown(png(raw, 60, 40, 16, 2)) == PICTURE).all()


def test_interlaced_png() -> None:
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    raw = b"".join(
        b"\0" + row.tobytes() for top, left, down, right in passes for row in PICTURE[top::down, left::right]
    )
    assert (shown(png(raw, 60, 40, 8, 2, interlace=1)) == PICTURE).all()


def test_palettes_with_and_without_transparency() -> None:
    drawn = Image.new("P", (20, 20), 1)
    drawn.putpalette([255, 0, 0, 0, 0, 255])
    drawn.putpixel((0, 0), 0)
    for kind in ("PNG", "GIF"):
        assert shown(encoded(drawn, kind))[:2, 0].tolist() == [[255, 0, 0], [0, 0, 255]]
        assert shown(encoded(drawn, kind, transparency=0))[:2, 0].tolist() == [[255, 255, 255], [0, 0, 255]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_lies_over_white(kind: str) -> None:
    clear = np.zeros((16, 16, 4), dtype=np.uint8)
    clear[:8, :, 3], clear[8:, :, 3] = 0, 128
    found = shown(encoded(clear, kind, lossless=True) if kind == "WEBP" else encoded(clear, kind))
    assert (found[:8] == 255).all() and np.abs(found[8:] - 127).max() <= 1
    grey = Image.fromarray(np.full((16, 16, 2), (0, 0), dtype=np.uint8), "LA")
    assert (shown(encoded(grey, "PNG")) == 255).all()


def test_a_colour_named_transparent_lies_over_white() -> None:
    flat = Image.new("RGB", (16, 16), (1, 2, 3))
    flat.putpixel((0, 0), (9, 9, 9))
    found = shown(encoded(flat, "PNG", transparency=(1, 2, 3)))
    assert found[0, 0].tolist() == [9, 9, 9] and (found[1:] == 255).all()
    # Two grey values by hand: 0 is named transparent.
    raw = b"".join(b"\0" + bytes([0, 200] * 8) for _ in range(16))
    assert shown(png(raw, 16, 16, 8, 0, (b"tRNS", b"\0\0")))[0, :2].tolist() == [[255] * 3, [200] * 3]


def test_single_bits() -> None:
    bits = Image.new("1", (16, 16), 1)
    bits.putpixel((3, 2), 0)
    found = shown(encoded(bits, "PNG"))
    assert found[2, 3].tolist() == [0, 0, 0] and found.sum() == 255 * 255 * 3


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(shown(data) - (250, 0, 0)).max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_images_are_turned_upright(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PICTURE, kind, exif=exif, **({} if kind == "PNG" else {"quality": 95}))
    upright = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert (shown(data) == upright).all()
    opened = open_image(sample(data))
    assert not isinstance(opened, Skipped) and opened.size == upright.shape[:2]
    # Cutting and scaling what lies on its side gives what turning it first would.
    turned, straight = fit(sample(data), 12, 16), fit(sample(encoded(upright, "PNG")), 12, 16)
    assert isinstance(turned, Fitted) and isinstance(straight, Fitted)
    assert (turned.original, turned.crop) == (straight.original, straight.crop)
    assert np.abs(turned.pixels.astype(int) - straight.pixels).max() <= 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_counts_as_none() -> None:
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40):
        assert near(encoded(PICTURE, exif=exif, quality=95), most=3)


def test_sizes_are_judged_before_anything_is_decoded() -> None:
    for width, height, expected in [
        (1, 10_000, Skip.EXTREME_SHAPE),
        (10_000, 1, Skip.EXTREME_SHAPE),
        (81, 10, Skip.EXTREME_SHAPE),
        (7, 7, Skip.TOO_FEW_PIXELS),
        (20_000, 20_000, Skip.TOO_MANY_PIXELS),
        (60_000, 60_000, Skip.TOO_MANY_PIXELS),
        (2**31 - 1, 2**31 - 1, Skip.TOO_MANY_PIXELS),
    ]:
        # There is no such picture behind the header, so decoding would say something else.
        assert reason(png(b"", width, height, 8, 2)) == expected
    assert shown(encoded(pixels(10, 80), "PNG")).shape == (10, 80, 3)
    assert shown(encoded(pixels(4, 4), "PNG"), min_pixels=1).shape == (4, 4, 3)


def test_decompression_bombs_of_every_format() -> None:
    bomb = bytearray(jpeg())
    at = bomb.index(b"\xff\xc0") + 5
    bomb[at : at + 4] = b"\xff\xdc\xff\xdc"
    assert reason(bytes(bomb)) == Skip.TOO_MANY_PIXELS
    gif = bytearray(encoded(Image.new("P", (16, 16)), "GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    assert reason(bytes(gif)) == Skip.TOO_MANY_PIXELS
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff\x3f\0" + b"\xff\x3f\0"
    assert reason(b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas) == Skip.TOO_MANY_PIXELS
    text = zlib.compress(bytes(1 << 24))
    chunk = (b"zTXt", b"key\0\0" + text)
    assert reason(png(b"".join(b"\0" + bytes(48) for _ in range(16)), 16, 16, 8, 2, chunk)) == Skip.CORRUPT_IMAGE


def test_a_jpeg_of_too_many_scans() -> None:
    data = encoded(PICTURE, progressive=True)
    assert 2 < jpeg_scans(data) < 20 and jpeg_scans(jpeg()) == 1
    last = data.rindex(b"\xff\xda")
    assert reason(data[:last] + data[last:-2] * 200 + data[-2:]) == Skip.CORRUPT_IMAGE


@pytest.mark.parametrize("kind, options", [("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True})])
def test_sizes_of_webp_headers_are_those_that_pillow_finds(kind: str, options: dict[str, Any]) -> None:
    for height, width in ((40, 60), (1, 300), (511, 3)):
        data = encoded(pixels(height, width), kind, **options)
        assert webp_size(data) == ((width, height) if kind == "WEBP" else None)
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    assert webp_size(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])) == (30, 20)


@pytest.mark.parametrize(
    "kind, options", [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("WEBP", {})]
)
def test_truncated_images(kind: str, options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise).convert("P") if kind == "GIF" else noise, kind, **options)
    for part in (0.3, 0.6, 0.9):
        assert reason(data[: int(len(data) * part)]) in (Skip.TRUNCATED_IMAGE, *[Skip.CORRUPT_IMAGE] * (kind == "WEBP"))


def test_what_is_no_image() -> None:
    assert reason(b"") == Skip.UNKNOWN_FORMAT and reason(b"<html>not found</html>") == Skip.UNKNOWN_FORMAT
    assert reason(encoded(PICTURE, "BMP")) == Skip.UNKNOWN_FORMAT
    assert reason(encoded(PICTURE, "PNG")[:20]) in (Skip.TRUNCATED_IMAGE, Skip.CORRUPT_IMAGE)
    assert reason(b"\xff\xd8\xff" + bytes(100)) == Skip.CORRUPT_IMAGE


@pytest.mark.parametrize("height, width", [(8, 8), (16, 16), (20, 30), (40, 60), (64, 64), (17, 90)])
def test_fitting_scales_until_it_covers_and_cuts_at_the_centre(height: int, width: int) -> None:
    found = fit(sample(encoded(PICTURE, "PNG")), height, width)
    assert isinstance(found, Fitted) and found.pixels.shape == (height, width, 3) and found.original == (40, 60)
    scale = max(height / 40, width / 60)
    assert found.crop == (round((40 * scale - height) / 2), round((60 * scale - width) / 2))
    # Pillow's filter over the exact part, and what lies just outside it; ours is over the whole pixels of the part.
    rest = ((60 - width / scale) / 2, (40 - height / scale) / 2)
    box = (rest[0], rest[1], 60 - rest[0], 40 - rest[1])
    theirs = Image.fromarray(PICTURE).resize((width, height), Image.Resampling.BICUBIC, box=box)
    assert np.abs(found.pixels.astype(int) - np.array(theirs)).mean() < 2


def test_the_filter_is_pillows_bicubic_to_rounding() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    for side in (96, 70, 33, 10, 150):
        found = fit(sample(encoded(noise, "PNG")), side, side)
        theirs = np.array(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))
        assert isinstance(found, Fitted) and np.abs(found.pixels.astype(int) - theirs).max() <= 1


def test_large_jpegs_decoded_small_differ_little() -> None:
    large = pixels(800, 1200, seed=5)
    data = encoded(large, quality=95)
    for side in (32, 64, 100):
        found, whole = fit(sample(data), side, side), fit(sample(encoded(large, "PNG")), side, side)
        assert isinstance(found, Fitted) and isinstance(whole, Fitted)
        assert (found.original, found.crop) == (whole.original, whole.crop)
        assert np.abs(found.pixels.astype(int) - whole.pixels).mean() < 2
    small = decode(sample(data), at_least=(100, 150))
    assert not isinstance(small, Skipped) and small.shape == (100, 150, 3)
    exact = decode(sample(data), at_least=(101, 150))
    assert not isinstance(exact, Skipped) and exact.shape == (200, 300, 3)


def test_an_opened_image_can_be_decoded_again() -> None:
    data = encoded(pixels(800, 1200, seed=5), quality=95)
    opened = open_image(sample(data))
    assert not isinstance(opened, Skipped) and opened.size == (800, 1200)
    small, whole, fitted = opened.fitted(32, 32), opened.pixels(), opened.fitted(600, 600)
    assert isinstance(small, Fitted) and not isinstance(whole, Skipped) and whole.shape == (800, 1200, 3)
    fresh = fit(sample(data), 600, 600)
    assert isinstance(fitted, Fitted) and isinstance(fresh, Fitted) and (fitted.pixels == fresh.pixels).all()


@pytest.mark.skipif(not CC12M.exists(), reason="the shard of photographs is not here")
def test_photographs_fitted_from_half_size_differ_less_than_filters_do() -> None:
    def error(found: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
        return 10 * np.log10(255**2 / max(((found.astype(float) - other) ** 2).mean(), 1e-9))

    drafts, filters = [], []
    for item in open_source(str(CC12M)).samples(0):
        assert isinstance(item, RawSample)
        image = Image.open(io.BytesIO(item.image)).convert("RGB")
        if image.width != image.height:
            continue
        whole, lanczos = (np.array(image.resize((100, 100), Image.Resampling(each))) for each in (3, 1))
        found = fit(item, 100, 100)
        assert isinstance(found, Fitted)
        drafts.append(error(found.pixels, whole))
        filters.append(error(lanczos, whole))
    assert len(drafts) > 3 and np.mean(drafts) > np.mean(filters)


def test_decoding_needs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert near(jpeg(), pixels(24, 32), most=6)


def test_no_image_is_blamed_for_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    good = encoded(PICTURE, "JPEG")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError):
        fit(sample(good), 8, 8)
    assert not isinstance(decode(sample(good)), Skipped)  # which needs none

"""Images fill their bucket: resized by one factor and cut evenly, or stretched a little and whole."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prx_scale.data.buckets import Bucket, assign, prx_buckets
from prx_scale.data.framing import Framing, frame, uncropped

BUCKETS = prx_buckets(256, 32)
PHOTOS = Path(__file__).parents[4] / "shared" / "data" / "cc12m_test"
SIDES = st.integers(1, 20_000)


def cut(image: Image.Image, framing: Framing) -> Image.Image:
    height, width = framing.resized
    return image.resize((width, height), Image.Resampling.BICUBIC).crop(framing.box)


@given(height=SIDES, width=SIDES, bucket=st.sampled_from(BUCKETS), stretch=st.sampled_from([0.0, 0.05, 0.3]))
def test_the_cut_lies_in_the_image_and_is_centred(height: int, width: int, bucket: Bucket, stretch: float) -> None:
    framing = frame((height, width), bucket, stretch)
    left, top, right, bottom = framing.box
    assert (bottom - top, right - left) == framing.target == (bucket.height, bucket.width)
    assert 0 <= left <= framing.resized[1] - right <= left + 1
    assert 0 <= top <= framing.resized[0] - bottom <= top + 1
    assert bucket.height == framing.resized[0] or bucket.width == framing.resized[1]


@given(height=SIDES, width=SIDES, bucket=st.sampled_from(BUCKETS))
def test_cropped_images_keep_their_ratio_to_half_a_pixel(height: int, width: int, bucket: Bucket) -> None:
    framing = frame((height, width), bucket, 0.0)
    scale = max(bucket.height / height, bucket.width / width)
    assert abs(framing.resized[0] - height * scale) <= 0.5 + 1e-6
    assert abs(framing.resized[1] - width * scale) <= 0.5 + 1e-6
    assert framing.upscaling == pytest.approx(scale, rel=0.5 / min(framing.resized))


@given(height=SIDES, width=SIDES, bucket=st.sampled_from(BUCKETS))
def test_small_errors_of_the_ratio_are_stretched_and_nothing_is_lost(height: int, width: int, bucket: Bucket) -> None:
    framing = frame((height, width), bucket)
    ratio = width / height / float(bucket.ratio)
    whole = framing.resized == framing.target
    assert whole == (framing.kept == 1)
    if max(ratio, 1 / ratio) < 1.05 - 1e-9:
        assert whole
    elif max(ratio, 1 / ratio) > 1.05 + 1 / min(bucket.height, bucket.width):
        assert not whole


def test_numbers_of_one_image() -> None:
    framing = frame((1000, 2400), Bucket(height=192, width=320))
    assert framing.resized == (192, 461) and framing.corner == (0, 70) and framing.box == (70, 0, 390, 192)
    assert framing.conditioning == (1000, 2400, 0, 70, 192, 320)
    assert framing.kept == pytest.approx(320 / 461) and framing.upscaling < 1
    assert uncropped((192, 320)) == (192, 320, 0, 0, 192, 320)


def test_what_is_cut_is_the_middle() -> None:
    """A ramp from left to right keeps its middle and loses equal parts at both ends."""
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 1200).astype(np.uint8), (400, 1)))
    pixels = np.asarray(cut(ramp, frame((400, 1200), Bucket(height=192, width=320))), dtype=np.float64)
    assert pixels.shape == (192, 320)
    assert pixels.mean() == pytest.approx(127.5, abs=1)
    lost = (1 - 320 / 576) / 2 * 255
    assert pixels[:, 0].mean() == pytest.approx(lost, abs=2)
    assert pixels[:, -1].mean() == pytest.approx(255 - lost, abs=2)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the shard of photographs is not there")
def test_photographs_fill_their_buckets() -> None:
    shapes: set[str] = set()
    for shard in sorted(PHOTOS.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                if not member.name.endswith(".jpg") or stream is None:
                    continue
                image = Image.open(io.BytesIO(stream.read())).convert("L")
                bucket = BUCKETS[int(assign(BUCKETS, [image.height], [image.width])[0])]
                framing = frame((image.height, image.width), bucket)
                assert cut(image, framing).size == (bucket.width, bucket.height)
                assert framing.kept > 0.75
                shapes.add(bucket.name)
    assert len(shapes) >= 3

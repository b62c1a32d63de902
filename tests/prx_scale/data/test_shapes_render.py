"""Rendering and the data set: exact pixels, cheap batches, the same sample on every rank."""

import time
from dataclasses import replace

import numpy as np
import pytest

from prx_scale.data.shapes.dataset import ShapesDataset
from prx_scale.data.shapes.render import BACKGROUND, PALETTE, STENCILS, render
from prx_scale.data.shapes.scenes import COLORS, SHAPES, draw
from prx_scale.errors import InputError


def test_each_object_is_its_stencil_in_its_colour():
    scenes = draw(5, np.arange(500))
    images = render(scenes)
    assert images.dtype == np.float32 and images.shape[1] == 3
    for image, scene in zip(images, scenes.scenes(), strict=True):
        painted = np.full_like(image, BACKGROUND)
        for item in scene.objects:
            window = painted[:, item.top : item.top + item.size, item.left : item.left + item.size]
            window[:, STENCILS[SHAPES.index(item.shape)]] = PALETTE[COLORS.index(item.color), :, None]
        assert np.array_equal(image, painted)


def test_stencils_and_colours_are_far_apart():
    flat = STENCILS.reshape(len(SHAPES), -1).astype(float)
    shared = flat @ flat.T
    overlap = shared / (flat.sum(1)[:, None] + flat.sum(1) - shared)
    assert (overlap - np.eye(len(SHAPES))).max() <= 0.76
    colours = np.concatenate([PALETTE, np.full((1, 3), BACKGROUND)])
    distance = np.linalg.norm(colours[:, None] - colours, axis=-1) + 10 * np.eye(len(colours))
    assert distance.min() > 1.7


def test_larger_images_repeat_pixels():
    scenes = draw(0, np.arange(4))
    small, large = render(scenes), render(scenes, 48)
    assert large.shape == (4, 3, 48, 48)
    assert np.array_equal(large[:, :, 1::3, 2::3], small)


def test_a_size_that_is_no_multiple_is_refused():
    with pytest.raises(InputError, match="multiple of 16, not 20"):
        ShapesDataset(image_size=20)


def test_a_sample_does_not_depend_on_its_batch():
    data = ShapesDataset(seed=4)
    whole = data.batch(np.arange(32))
    ranks = [data.batch(np.arange(rank, 32, 4)) for rank in range(4)]
    for rank, part in enumerate(ranks):
        assert part.captions == whole.captions[rank::4]
        for name in ("image", "context", "pooled"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[rank::4])


def test_caption_mix_is_a_share_of_long_captions():
    data = ShapesDataset()
    indices = np.arange(4000)
    short, long = (replace(data, caption_mix=mix).batch(indices).captions for mix in (0.0, 1.0))
    mixed = replace(data, caption_mix=0.3).batch(indices).captions
    differs = [i for i in indices if short[i] != long[i]]
    share = np.mean([mixed[i] == long[i] for i in differs])
    assert abs(share - 0.3) < 0.03
    assert all(mixed[i] in (short[i], long[i]) for i in indices)


def test_a_batch_is_cheap():
    data = ShapesDataset()
    data.batch(np.arange(64))
    times: list[float] = []
    for start in range(10):
        before = time.process_time()
        data.batch(np.arange(64) + 64 * start)
        times.append(time.process_time() - before)
    # About 2 ms on one core; the bound leaves room for a slow machine.
    assert min(times) < 0.02

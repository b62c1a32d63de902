"""The perceptual hash against its definition and by what it is for, and copies against a plain search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from prx_scale.data.decode import decode
from prx_scale.data.filters.duplicates import FARTHEST, banding, close_pairs, duplicates
from prx_scale.data.filters.phash import ENOUGH, distance, perceptual_hash
from tests.prx_scale.data.filter_data import picture
from tests.prx_scale.data.made import encoded, sample

Hashes = NDArray[np.uint64]


def hash_of(image: Image.Image) -> int:
    return perceptual_hash(np.asarray(image.convert("RGB")))


def apart(one: Image.Image, other: Image.Image) -> int:
    return (hash_of(one) ^ hash_of(other)).bit_count()


def test_the_hash_is_the_definition() -> None:
    """The whole transform by scipy, written out bit by bit."""
    for seed in range(20):
        image = picture(seed, 90 + seed, 70 + 2 * seed)
        grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=np.float64)
        low = dctn(grey, type=2)[:8, :8].ravel()
        middle = (sorted(low)[31] + sorted(low)[32]) / 2
        assert f"{hash_of(image):064b}" == "".join("1" if each > middle else "0" for each in low)


def test_copies_of_a_picture_are_near_and_other_pictures_far() -> None:
    pictures = [picture(seed, 400, 300) for seed in range(12)]
    for image in pictures:
        for width, height, quality in ((400, 300, 40), (200, 150, 90), (120, 90, 75), (800, 600, 60), (398, 301, 85)):
            resized = image.resize((width, height), Image.Resampling.BICUBIC)
            copy = decode(sample(encoded(resized, quality=quality)))
            assert isinstance(copy, np.ndarray)
            assert (perceptual_hash(copy) ^ hash_of(image)).bit_count() <= 4
    assert min(apart(one, other) for one, other in itertools.combinations(pictures, 2)) > 12


def test_a_jpeg_that_is_decoded_smaller_has_nearly_the_same_hash() -> None:
    for seed in range(8):
        data = sample(encoded(picture(seed, 640, 520), quality=90))
        whole, small = decode(data), decode(data, at_least=(ENOUGH, ENOUGH))
        assert isinstance(whole, np.ndarray) and isinstance(small, np.ndarray) and small.shape[0] == 260
        assert (perceptual_hash(whole) ^ perceptual_hash(small)).bit_count() <= 2


def test_pictures_of_one_colour_have_one_hash() -> None:
    """Without rounding, their coefficients are noise, and so would be their hashes."""
    flat = [Image.new("RGB", (70 + 13 * each, 64 + 7 * each), (5 * each + 3,) * 3) for each in range(40)]
    assert len({hash_of(image) for image in flat}) == 1


def clustered(rng: np.random.Generator, count: int, spread: int) -> Hashes:
    """Hashes around a few centres, some of them the same."""
    centres = rng.integers(0, 2**64, max(count // 6, 1), dtype=np.uint64)
    hashes = rng.choice(centres, count)
    for _ in range(spread):
        flips = np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64)
        hashes = np.where(rng.uniform(size=count) < 0.6, hashes ^ flips, hashes)
    return hashes.astype(np.uint64)


def plain_duplicates(hashes: Hashes, priority: NDArray[np.int64], known: NDArray[np.bool_], most: int) -> list[int]:
    """From the best to the worst: kept, unless a better one that is kept is within the distance."""
    order = sorted(np.flatnonzero(known).tolist(), key=lambda each: (-priority[each], each))
    kept: list[int] = []
    found = [-1] * len(hashes)
    for each in order:
        near = [other for other in kept if int(distance(hashes[each], hashes[other])) <= most]
        if near:
            found[each] = near[0]
        else:
            kept.append(each)
    return found


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 60), most=st.integers(0, 8), spread=st.integers(0, 4))
def test_copies_are_those_of_a_plain_search(seed: int, count: int, most: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    hashes, priority = clustered(rng, count, spread), rng.integers(0, 5, count)
    known = rng.uniform(size=count) < 0.9
    found = duplicates(hashes, priority, known, most)
    expected = plain_duplicates(hashes, priority, known, most)
    assert [each >= 0 for each in found.tolist()] == [each >= 0 for each in expected]
    for each, kept in enumerate(found.tolist()):
        if kept >= 0:  # which of several kept ones it is told of matters less than that it is one
            assert found[kept] == -1 and int(distance(hashes[each], hashes[kept])) <= most
            assert (priority[kept], -kept) > (priority[each], -each)
    if most == 0:
        assert found.tolist() == expected


@pytest.mark.parametrize("most", range(1, FARTHEST + 1))
def test_close_pairs_are_all_there(most: int) -> None:
    rng = np.random.default_rng(most)
    hashes = np.unique(clustered(rng, 400, most))
    found = set(zip(*(each.tolist() for each in close_pairs(hashes, most)), strict=True))
    all_pairs = itertools.combinations(range(len(hashes)), 2)
    assert found == {(a, b) for a, b in all_pairs if int(distance(hashes[a], hashes[b])) <= most}
    assert found


def test_bands_grow_with_the_number_of_hashes() -> None:
    for most in (1, 2, 3, 4):
        assert most < banding(10_000, most) <= banding(10**8, most)
    assert [banding(10**8, most) for most in (1, 2, 3)] == [2, 4, 5]


def test_a_chain_of_pairs_does_not_join_its_ends() -> None:
    hashes = np.array([0b0, 0b1, 0b11, 0b111], dtype=np.uint64)
    assert duplicates(hashes, np.array([9, 5, 4, 1]), np.ones(4, dtype=np.bool_), 1).tolist() == [-1, 0, -1, 2]

"""The lists of buckets are the published ones, every image is in the bucket of the nearest ratio, and tiers hold."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prx_scale.data.buckets import (
    Bucket,
    BucketTable,
    assign,
    bucket_list,
    grid_side,
    highest_tier,
    near_area_buckets,
    prx_buckets,
    ratio_of,
    reaches,
)
from prx_scale.errors import InputError

SIDES = st.integers(1, 20_000)


def names(buckets: tuple[Bucket, ...]) -> list[str]:
    return [bucket.name for bucket in buckets]


def turned(buckets: tuple[Bucket, ...]) -> list[str]:
    return [f"{bucket.width}x{bucket.height}" for bucket in reversed(buckets)]


@pytest.mark.parametrize(
    ("image_size", "step", "count"),
    [(256, 32, 7), (256, 16, 13), (512, 32, 13), (512, 16, 27), (1024, 32, 27), (1024, 16, 53)],
)
def test_prx_lists_have_the_checked_lengths(image_size: int, step: int, count: int) -> None:
    assert len(prx_buckets(image_size, step)) == count


def test_prx_list_at_256_is_the_published_one() -> None:
    upright = ["352x160", "320x192", "288x224", "256x256"]
    assert names(prx_buckets(256, 32)) == [*upright, "224x288", "192x320", "160x352"]
    assert prx_buckets(1024, 32)[0] == Bucket(height=1440, width=704)


@given(cells=st.integers(1, 40), step=st.sampled_from([16, 32, 48]), limit=st.floats(1.0, 9.0))
def test_prx_lists_keep_within_the_tokens_of_the_square(cells: int, step: int, limit: float) -> None:
    found = prx_buckets(cells * step, step, 1 / limit, limit)
    assert all(bucket.tokens(step) <= cells**2 for bucket in found)
    assert all(bucket.tokens(step) > cells**2 - max(bucket.height, bucket.width) / step for bucket in found)
    assert Bucket(height=cells * step, width=cells * step) in found
    assert names(found) == turned(found)
    ratios = [bucket.ratio for bucket in found]
    assert ratios == sorted(set(ratios))


def test_qwen_image_list_at_256_is_the_published_one() -> None:
    found = bucket_list(BucketTable(rule="qwen-image"), 256, 16)
    assert set(names(found)) == {
        *("256x256", "320x208", "288x224", "336x192", "448x144"),
        *("208x320", "224x288", "192x336", "144x448"),
    }
    assert names(found) == turned(found)


def test_sd3_list_at_1024_is_near_the_area_of_the_square() -> None:
    found = bucket_list(BucketTable(rule="sd3"), 1024, 16)
    assert {"1024x1024", "896x1152", "832x1216", "768x1344"} <= set(names(found))
    assert all(abs(b.height * b.width / 1024**2 - 1) <= 32 / min(b.height, b.width) for b in found)


@example(image_size=880, limit=1.9)
@given(image_size=st.integers(4, 80).map(lambda n: n * 16), limit=st.floats(1.0, 6.0))
def test_sd3_lists_are_alike_both_ways_round(image_size: int, limit: float) -> None:
    found = near_area_buckets(image_size, 16, 1 / limit, limit)
    assert names(found) == turned(found) and f"{image_size}x{image_size}" in names(found)
    assert all(max(bucket.ratio, 1 / bucket.ratio) <= limit * (1 + 1e-8) for bucket in found)


def test_square_is_one_bucket() -> None:
    assert names(bucket_list(BucketTable(), 256, 16)) == ["256x256"]


def test_positions_must_reach_along_the_longest_side() -> None:
    assert grid_side(bucket_list(BucketTable(rule="prx"), 256, 16), 16) == 22


@pytest.mark.parametrize(
    ("table", "image_size", "message"),
    [
        (BucketTable(), 250, "image_size 250 is not a multiple of the 16 pixels of a token"),
        (BucketTable(rule="prx"), 272, "step: 32 does not divide image_size 272"),
        (BucketTable(rule="sd3", step=24), 256, "step: 24 is not a multiple of the 16 pixels of a token"),
        (BucketTable(rule="qwen-image", ratios=("16x9",)), 256, "ratios: '16x9' is no ratio; write width:height"),
        (BucketTable(rule="qwen-image", ratios=("0:1",)), 256, "ratios: '0:1' is no ratio"),
        (BucketTable(rule="qwen-image", ratios=()), 256, "ratios: an empty list"),
    ],
)
def test_impossible_lists_are_refused(table: BucketTable, image_size: int, message: str) -> None:
    with pytest.raises(InputError, match=r"study.toml: \[buckets\]") as refusal:
        bucket_list(table, image_size, 16, "study.toml: [buckets]")
    assert message in str(refusal.value)


def test_ratio_is_width_over_height() -> None:
    assert ratio_of("16:9", "") == Fraction(16, 9)


LISTS = [
    prx_buckets(256, 32),
    prx_buckets(512, 16),
    bucket_list(BucketTable(rule="qwen-image"), 1328, 16),
    bucket_list(BucketTable(rule="sd3"), 512, 16),
    (Bucket(height=20, width=10), Bucket(height=10, width=10), Bucket(height=10, width=20)),
    (Bucket(height=30, width=20), Bucket(height=20, width=30)),
]


def distance(bucket: Bucket, height: int, width: int) -> Fraction:
    """exp of |log(ratio / bucket's ratio)|, exactly."""
    off = Fraction(width, height) / bucket.ratio
    return max(off, 1 / off)


@given(buckets=st.sampled_from(LISTS), height=SIDES, width=SIDES)
def test_images_are_in_the_bucket_of_the_nearest_ratio(buckets: tuple[Bucket, ...], height: int, width: int) -> None:
    number = int(assign(buckets, [height], [width])[0])
    assert distance(buckets[number], height, width) == min(distance(each, height, width) for each in buckets)


@given(buckets=st.sampled_from(LISTS), height=SIDES, width=SIDES)
def test_turned_images_are_in_turned_buckets(buckets: tuple[Bucket, ...], height: int, width: int) -> None:
    if height != width:
        upright, across = assign(buckets, [height, width], [width, height]).tolist()
        assert upright + across == len(buckets) - 1


@pytest.mark.parametrize(("long", "short"), [(3, 2), (2, 1), (18, 11), (23, 15)])
def test_ties_go_to_the_squarer_bucket(long: int, short: int) -> None:
    """3:2 lies between 1:1 and 9:4 on the logarithmic scale, whatever rounding does to 2/3."""
    sides = (long**2, short**2)
    buckets = tuple(Bucket(height=h, width=w) for h, w in (sides, (long * short, long * short), sides[::-1]))
    assert assign(buckets, [100 * long, 100 * short], [100 * short, 100 * long]).tolist() == [1, 1]


def test_a_tie_between_equals_goes_to_the_taller_bucket() -> None:
    assert assign(LISTS[-1], [64], [64]).tolist() == [0]


def test_a_list_of_one_takes_everything() -> None:
    assert assign(bucket_list(BucketTable(), 256, 16), [1, 10_000], [10_000, 1]).tolist() == [0, 0]


def test_tiers_are_reached_with_a_third_of_upscaling() -> None:
    heights, widths = np.array([384, 383, 768, 2000, 200, 3000]), np.array([384, 384, 768, 2000, 200, 50])
    assert reaches(heights, widths, 512).tolist() == [True, False, True, True, False, True]
    assert highest_tier(heights, widths, [256, 512, 1024]).tolist() == [1, 0, 2, 2, 0, 1]
    assert highest_tier([100], [100], [256, 512]).tolist() == [-1]
    assert reaches([384], [384], 512, 1.3333).tolist() == [True]

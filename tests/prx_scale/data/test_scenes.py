"""The scene generator: deterministic by index, exact in its families, disjoint between splits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prx_scale.data.shapes.hashing import uniforms
from prx_scale.data.shapes.render import render
from prx_scale.data.shapes.scenes import CANVAS, GAP, TASKS, draw, layouts, scene


def test_uniforms_depend_on_seed_and_index_only():
    together = uniforms(3, np.array([5, 6, 7]), 4)
    alone = uniforms(3, np.array([6]), 4)
    assert np.array_equal(together[1], alone[0])
    assert not np.array_equal(uniforms(4, np.array([6]), 4), alone)


def test_uniforms_are_uniform_and_uncorrelated():
    u = uniforms(0, np.arange(20000), 6)
    assert np.all((u >= 0) & (u < 1))
    # 20,000 draws: standard error of a mean is 0.002, of a correlation 0.007.
    assert np.abs(u.mean(axis=0) - 0.5).max() < 0.01
    correlation = np.corrcoef(np.concatenate([u, np.roll(u, 1, axis=0)], axis=1).T)
    assert np.abs(correlation - np.eye(12)).max() < 0.03


@given(st.integers(0, 2**40), st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_a_scene_does_not_depend_on_its_batch(seed: int, index: int):
    others = np.array([index + 1, index, index + 2])
    assert draw(seed, others).scenes()[1] == scene(seed, index)


def test_scenes_are_a_fixed_function_of_seed_and_index():
    found = [scene(0, index) for index in range(3)]
    assert [(s.task, len(s.objects)) for s in found] == [("color_attr", 2), ("two_object", 2), ("two_object", 2)]


def test_every_family_holds_what_it_promises():
    for s in draw(1, np.arange(6000)).scenes():
        shapes = [item.shape for item in s.objects]
        assert len(shapes) == {"single_object": 1, "colors": 1, "counting": len(shapes)}.get(s.task, 2)
        if s.task == "counting":
            assert len(shapes) in (2, 3, 4) and len(set(shapes)) == 1
        elif len(shapes) == 2:
            assert len(set(shapes)) == 2
        if s.task == "color_attr":
            assert len({item.color for item in s.objects}) == 2
        assert (s.relation is not None) == (s.task == "position")


def test_families_are_equally_frequent():
    share = np.bincount(draw(0, np.arange(12000)).task, minlength=len(TASKS)) / 12000
    assert np.abs(share - 1 / 6).max() < 0.015


def test_objects_stay_inside_and_apart():
    for s in draw(2, np.arange(3000)).scenes():
        for i, a in enumerate(s.objects):
            assert 0 <= a.left <= CANVAS - a.size and 0 <= a.top <= CANVAS - a.size
            for b in s.objects[:i]:
                assert max(abs(a.left - b.left), abs(a.top - b.top)) >= a.size + GAP


def test_layouts_are_distinct_sets():
    for count in (1, 2, 3, 4):
        table = layouts(count)
        keys = {tuple(sorted(map(tuple, rows.tolist()))) for rows in table}
        assert len(keys) == len(table)


def test_the_object_named_first_is_on_either_side():
    s = draw(0, np.arange(6000))
    pairs = s.count == 2
    left_first = (s.left[pairs, 0] < s.left[pairs, 1]).mean()
    assert 0.35 < left_first < 0.55


@pytest.mark.parametrize("seeds", [(0, 0), (1, 2)])
def test_no_heldout_image_is_ever_trained_on(seeds: tuple[int, int]):
    train = render(draw(seeds[0], np.arange(20000), "train"))
    heldout = render(draw(seeds[1], np.arange(2000), "heldout"))
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in heldout}


def test_splits_are_alike():
    train, heldout = (draw(0, np.arange(20000), split) for split in ("train", "heldout"))
    for name in ("task", "count", "shape", "color", "left", "top"):
        a, b = (np.bincount(getattr(s, name).ravel(), minlength=16) / 20000 for s in (train, heldout))
        assert np.abs(a - b).max() < 0.1 * max(a.max(), 1), name

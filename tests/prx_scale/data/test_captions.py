"""Captions say exactly what is drawn; the encoder keeps words and order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prx_scale.data.shapes.captions import (
    MAX_TOKENS,
    VOCABULARY,
    long_caption,
    place,
    plural,
    short_caption,
    tokenize,
)
from prx_scale.data.shapes.scenes import CANVAS, Scene, SceneObject, draw, scene
from prx_scale.data.shapes.text import TEXT_DIM, carried_vectors, encode, word_vectors
from prx_scale.errors import InputError


def make(task: str, *parts: tuple[str, str, int, int], relation: str | None = None) -> Scene:
    objects = tuple(SceneObject(color=c, shape=s, left=x, top=y) for c, s, x, y in parts)
    return Scene(task=task, objects=objects, relation=relation)


END = CANVAS - SceneObject(shape="ring", color="red", left=0, top=0).size


@pytest.mark.parametrize(
    ("made", "short", "long"),
    [
        (make("single_object", ("red", "square", 0, 0)), "a square", "a red square top left"),
        (make("colors", ("red", "square", END, 0)), "a red square", "a red square top right"),
        (
            make("two_object", ("red", "circle", 0, END), ("blue", "square", END, END)),
            "a circle and a square",
            "a red circle bottom left and a blue square bottom right",
        ),
        (
            make("counting", ("red", "cross", 0, 0), ("blue", "cross", 0, END), ("red", "cross", END, END)),
            "three crosses",
            "three crosses: red top left, blue bottom left, red bottom right",
        ),
        (
            make("position", ("red", "ring", 0, 0), ("white", "cross", 0, END), relation="above"),
            "a ring above a cross",
            "a red ring top left, above a white cross bottom left",
        ),
        (
            make("color_attr", ("green", "ring", 0, 0), ("white", "cross", 0, END)),
            "a green ring and a white cross",
            "a green ring top left and a white cross bottom left",
        ),
    ],
)
def test_captions_of_known_scenes(made: Scene, short: str, long: str):
    assert short_caption(made) == short
    assert long_caption(made) == long


@given(st.integers(0, 2**50))
@settings(max_examples=200, deadline=None)
def test_captions_are_true_and_fit(index: int):
    s = scene(0, index)
    for text in (short_caption(s), long_caption(s)):
        words = text.replace(",", "").replace(":", "").split()
        assert len(words) <= MAX_TOKENS
        tokens = tokenize(text)
        assert [VOCABULARY[t] for t in tokens[: len(words)]] == words and not tokens[len(words) :].any()
    named = long_caption(s)
    for item in s.objects:
        assert item.color in named and place(item) in named
        assert (plural(item.shape) if s.task == "counting" else item.shape) in named.replace(":", "").split()


def test_relation_of_the_caption_is_true():
    for s in draw(0, np.arange(4000)).scenes():
        if s.relation:
            (ax, ay), (bx, by) = (item.center for item in s.objects)
            true = {"left of": ax < bx, "right of": ax > bx, "above": ay < by, "below": ay > by}
            assert true[s.relation]


def test_words_outside_the_vocabulary_are_named():
    with pytest.raises(InputError, match=r"'hexagon'.*square"):
        tokenize("a hexagon")
    with pytest.raises(InputError, match="at most"):
        tokenize("a " * (MAX_TOKENS + 1))


def test_word_vectors_are_orthogonal():
    vectors = word_vectors()[1:]
    assert np.allclose(vectors @ vectors.T, TEXT_DIM * np.eye(len(vectors)), atol=1e-3)


def test_the_empty_condition_is_zero():
    context, pooled = encode(["", "a ring"])
    assert context.shape == (2, MAX_TOKENS, TEXT_DIM) and pooled.shape == (2, TEXT_DIM)
    assert not context[0].any() and not pooled[0].any()
    assert context[1, :2].any(axis=-1).all() and not context[1, 2:].any()


def test_order_shows_in_the_context_and_not_in_the_pooled_vector():
    context, pooled = encode(["a red ring and a blue cross", "a blue ring and a red cross"])
    assert np.allclose(pooled[0], pooled[1], atol=1e-5)
    assert not np.allclose(context[0], context[1])


def test_a_word_vector_carries_the_word_before_it():
    context, _ = encode(["a red ring", "a blue ring"])
    assert np.allclose(context[0, 0], context[1, 0])
    before = carried_vectors()[tokenize("red blue")[:2]] * 0.5**0.5
    assert np.allclose(context[0, 2] - context[1, 2], before[0] - before[1], atol=1e-5)

"""GenEval's scores and their intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prx_scale.errors import InputError
from prx_scale.evaluation.geneval import TAGS
from prx_scale.evaluation.geneval_scores import Graded, score


def graded(shares: dict[str, list[int]], images: int = 4) -> list[Graded]:
    """Prompts per tag, each given by how many of its images are correct."""
    rows: list[Graded] = []
    for tag, corrects in shares.items():
        for correct in corrects:
            prompt = rows[-1].prompt_id + 1 if rows else 0
            rows += [Graded(prompt_id=prompt, image_id=i, tag=tag, correct=i < correct) for i in range(images)]
    return rows


def test_overall_is_the_plain_mean_of_the_tasks():
    shares = {tag: [4] * 2 for tag in TAGS} | {"counting": [0] * 20}
    scores = score(graded(shares))
    assert scores.overall is not None and scores.overall.value == pytest.approx(5 / 6)
    assert scores.images == pytest.approx(10 / 30) and scores.prompts == pytest.approx(10 / 30)
    assert list(scores.tasks) == list(TAGS) and not scores.notices


def test_share_of_prompts_counts_any_correct_image():
    scores = score(graded({"colors": [1, 0, 4, 0]}))
    assert scores.tasks["colors"].value == pytest.approx(5 / 16)
    assert scores.prompts == pytest.approx(0.5)


def test_a_missing_task_leaves_no_overall_score():
    scores = score(graded({"colors": [4, 4]}))
    assert scores.overall is None
    assert scores.notices[0].startswith("no overall score: no images of single_object")


def test_incomplete_prompts_are_noticed():
    rows = graded({tag: [2, 2] for tag in TAGS})
    assert score(rows[1:]).notices == ("single_object: 1 of 2 prompts do not have 4 images",)


def test_bad_rows_are_refused():
    rows = graded({"colors": [1]})
    with pytest.raises(InputError, match="judged twice"):
        score([*rows, rows[0]])
    with pytest.raises(InputError, match="unknown tag 'colour'"):
        score([Graded(prompt_id=0, image_id=0, tag="colour", correct=True)])
    with pytest.raises(InputError, match="no judged images"):
        score([])


def test_standard_errors_respect_images_that_share_a_prompt():
    # 100 prompts at one half: images tied within a prompt give sqrt(.25/100) = .05, independent ones .025.
    rng = np.random.default_rng(0)
    tied = score(graded({"colors": [4 * int(x) for x in rng.random(100) < 0.5]})).tasks["colors"]
    loose = score(graded({"colors": rng.binomial(4, 0.5, 100).tolist()})).tasks["colors"]
    assert tied.stderr == pytest.approx(0.05, abs=0.006)
    assert loose.stderr == pytest.approx(0.025, abs=0.006)
    assert tied.interval[0] < tied.value < tied.interval[1]


@given(st.lists(st.integers(0, 4), min_size=6, max_size=40), st.randoms())
@settings(max_examples=30, deadline=None)
def test_scores_do_not_depend_on_the_order_of_images(corrects: list[int], random: object):
    shares = {tag: corrects[i::6] for i, tag in enumerate(TAGS)}
    rows = graded(shares)
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert score(rows, replicates=50) == score(shuffled, replicates=50)


def test_intervals_repeat():
    rows = graded({tag: [1, 2, 3, 4, 0] for tag in TAGS})
    assert score(rows) == score(rows)
    assert score(rows, seed=1) != score(rows)

"""The shapes prompt set: GenEval's format, the training captions' wording, no duplicates."""

import pytest

from prx_scale.data.shapes.captions import tokenize
from prx_scale.evaluation.geneval import COLORS, TAGS, parse_prompt
from prx_scale.evaluation.shapes_prompts import shapes_prompts


def test_prompts_of_every_task_without_duplicates():
    prompts = shapes_prompts()
    assert [sum(p.tag == tag for p in prompts) for tag in TAGS] == [5, 16, 15, 16, 16, 16]
    assert len({p.prompt for p in prompts}) == len(prompts)
    assert [p.tag for p in prompts] == sorted((p.tag for p in prompts), key=TAGS.index)


def test_the_seed_decides():
    assert shapes_prompts(seed=3) == shapes_prompts(seed=3) != shapes_prompts(seed=4)
    assert shapes_prompts(4) == [p for tag in TAGS for p in [q for q in shapes_prompts() if q.tag == tag][:4]]


@pytest.mark.parametrize("per_task", [80])
def test_all_short_captions_are_reached(per_task: int):
    counts = [sum(p.tag == tag for p in shapes_prompts(per_task)) for tag in TAGS]
    assert counts == [5, 20, 15, 30, 80, 80]


def test_prompts_are_valid_geneval_metadata_in_known_words():
    for prompt in shapes_prompts(seed=1):
        assert parse_prompt(prompt.to_json()) == prompt
        assert tokenize(prompt.prompt).any()
        assert all(item.color is None or item.color in COLORS for item in prompt.include)


def test_the_reference_object_of_a_position_comes_first_in_include():
    for prompt in shapes_prompts():
        if prompt.tag == "position":
            target, subject = prompt.include
            assert prompt.prompt == f"a {subject.name} {subject.relation} a {target.name}"
        if prompt.tag == "counting":
            assert prompt.exclude[0].count == prompt.include[0].count + 1

"""GenEval's decision rule and metadata format, against the official behaviours."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prx_scale.errors import InputError
from prx_scale.evaluation.geneval import (
    RELATIONS,
    Box,
    Detection,
    Item,
    Prompt,
    Rules,
    judge,
    parse_prompt,
    read_prompts,
    relations,
    select,
    write_prompts,
)

OFFICIAL = Path(__file__).parents[4] / "shared" / "data" / "geneval" / "evaluation_metadata.jsonl"


def dog(x: float = 0, y: float = 0, score: float = 0.95, name: str = "dog", color: str | None = None) -> Detection:
    return Detection(name=name, box=(x, y, x + 10, y + 10), score=score, color=color)


def ask(tag: str, *include: Item, exclude: tuple[Item, ...] = ()) -> Prompt:
    return Prompt(tag=tag, prompt="a photo", include=include, exclude=exclude)


ONE_DOG = Item(name="dog", count=1)


class TestRelations:
    def test_margin_is_taken_off_the_offset(self):
        # o = -20, margin 2, r = -18, dx = -0.9
        assert relations((0, 0, 10, 10), (20, 0, 30, 10)) == {"left of"}

    def test_offset_within_the_margin_is_no_relation(self):
        assert relations((0, 0, 10, 10), (1, 0, 11, 10)) == set()

    def test_two_relations_can_hold(self):
        assert relations((0, 0, 10, 10), (40, 40, 50, 50)) == {"left of", "above"}

    def test_the_norm_is_that_of_the_raw_offset(self):
        # o = (4, 0), margin 2, r = 2, dx = 2/4: not more than one half.
        assert relations((4, 0, 14, 10), (0, 0, 10, 10)) == set()
        assert relations((4.1, 0, 14.1, 10), (0, 0, 10, 10)) == {"right of"}

    def test_y_grows_downward(self):
        assert relations((0, 0, 10, 10), (0, 30, 10, 40)) == {"above"}

    @given(st.tuples(*[st.integers(0, 60)] * 4), st.tuples(*[st.integers(1, 30)] * 4))
    def test_the_opposite_relation_holds_the_other_way_round(
        self, corner: tuple[int, int, int, int], size: tuple[int, int, int, int]
    ):
        a: Box = (corner[0], corner[1], corner[0] + size[0], corner[1] + size[1])
        b: Box = (corner[2], corner[3], corner[2] + size[2], corner[3] + size[3])
        opposite = dict(zip(RELATIONS, ("right of", "left of", "below", "above"), strict=True))
        assert relations(b, a) == {opposite[name] for name in relations(a, b)}
        assert len(relations(a, b)) <= 2


class TestJudge:
    def test_extra_objects_are_tolerated_without_exclude(self):
        assert judge(ask("single_object", ONE_DOG), [dog(), dog(30)]).correct

    def test_missing_objects_fail(self):
        verdict = judge(ask("two_object", ONE_DOG, Item(name="cat", count=1)), [dog()])
        assert not verdict.correct and verdict.reason == "expected cat>=1, found 0"

    def test_counting_is_exact_through_exclude(self):
        prompt = ask("counting", Item(name="dog", count=2), exclude=(Item(name="dog", count=3),))
        assert not judge(prompt, [dog()]).correct
        assert judge(prompt, [dog(), dog(20)]).correct
        verdict = judge(prompt, [dog(), dog(20), dog(40)])
        assert verdict.reason == "expected dog<3, found 3"

    def test_counting_has_its_own_threshold_which_is_strict(self):
        prompt = ask("counting", ONE_DOG, exclude=(Item(name="dog", count=2),))
        assert judge(prompt, [dog(score=0.91), dog(20, score=0.9)]).correct
        assert not judge(ask("single_object", ONE_DOG), [dog(score=0.3)]).correct
        assert judge(ask("single_object", ONE_DOG), [dog(score=0.31)]).correct

    def test_colour_looks_at_the_best_scored_objects_only(self):
        prompt = ask("colors", Item(name="dog", count=1, color="red"))
        best_blue = [dog(color="red", score=0.5), dog(20, color="blue", score=0.9)]
        verdict = judge(prompt, best_blue)
        assert verdict.reason == "expected red dog>=1, found 0 red; and 1 blue"
        assert judge(prompt, [dog(color="red", score=0.9), dog(20, color="blue", score=0.5)]).correct

    def test_every_kept_object_must_hold_the_relation_to_every_target(self):
        prompt = ask("position", Item(name="cat", count=2), Item(name="dog", count=1, relation="left of"))
        cats = [dog(40, name="cat"), dog(60, name="cat")]
        assert judge(prompt, [dog(), *cats]).correct
        verdict = judge(prompt, [dog(50, 100), *cats])
        assert verdict.reason == "expected dog left of target, found below target"

    def test_no_target_when_the_earlier_item_failed(self):
        prompt = ask("position", Item(name="cat", count=1), Item(name="dog", count=1, relation="left of"))
        assert judge(prompt, [dog()]).reason == "expected cat>=1, found 0\nno target for dog to be left of"

    def test_position_is_not_looked_at_after_a_wrong_colour(self):
        wanted = Item(name="dog", count=1, color="red", relation="left of")
        verdict = judge(ask("position", Item(name="cat", count=1), wanted), [dog(color="blue"), dog(name="cat")])
        assert verdict.reason == "expected red dog>=1, found 0 red; and 1 blue"

    def test_most_objects_per_class(self):
        crowd = [dog(20 * i, score=0.99 - i / 1000) for i in range(20)]
        assert len(select(crowd, "counting", Rules())["dog"]) == 16
        assert select(crowd, "counting", Rules(max_objects=2))["dog"] == crowd[:2]

    def test_suppression_is_off_by_default_and_keeps_the_best(self):
        twice = [dog(score=0.8), dog(1, score=0.9), dog(1, name="cat")]
        assert len(select(twice, "colors", Rules())["dog"]) == 2
        kept = select(twice, "colors", Rules(max_overlap=0.5))
        assert [d.score for d in kept["dog"]] == [0.9] and len(kept["cat"]) == 1

    @given(st.permutations([dog(score=0.4), dog(20, score=0.6), dog(40, score=0.8)]))
    def test_order_of_detections_does_not_matter(self, shuffled: list[Detection]):
        assert [d.score for d in select(shuffled, "colors", Rules())["dog"]] == [0.8, 0.6, 0.4]


class TestMetadata:
    def test_written_prompts_read_back(self, tmp_path: Path):
        prompts = [
            ask("counting", Item(name="dog", count=2), exclude=(Item(name="dog", count=3),)),
            ask("position", Item(name="cat", count=1), Item(name="dog", count=1, relation="above")),
            ask("color_attr", Item(name="cat", count=1, color="red"), Item(name="dog", count=1, color="black")),
        ]
        write_prompts(tmp_path / "prompts.jsonl", prompts)
        assert read_prompts(tmp_path / "prompts.jsonl") == prompts

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ([], "expected a JSON object, got list"),
            ({"tag": "colors", "prompt": "x"}, "missing include"),
            ({"tag": "colors", "prompt": "x", "include": []}, "include is empty"),
            ({"tag": "colors", "prompt": "x", "include": [{"class": "dog"}]}, r"include\[0\]: missing count"),
            ({"tag": "colors", "prompt": "x", "include": [{"class": "dog", "count": 0}]}, "positive integer"),
            (
                {"tag": "colors", "prompt": "x", "include": [{"class": "dog", "count": 1, "color": "reed"}]},
                "did you mean 'red'",
            ),
            (
                {"tag": "x", "prompt": "x", "include": [{"class": "d", "count": 1, "position": ["left of", 0]}]},
                "earlier item",
            ),
            (
                {"tag": "x", "prompt": "x", "include": [{"class": "d", "count": 1, "position": ["under", 0]}]},
                "unknown relation 'under'",
            ),
            (
                {"tag": "x", "prompt": "x", "include": [{"class": "d", "count": 1, "position": "above"}]},
                r"position must be \[relation, index",
            ),
            ({"tag": "x", "prompt": "x", "include": [], "exlude": []}, "did you mean 'exclude'"),
        ],
    )
    def test_bad_rows_say_what_is_wrong(self, row: object, message: str):
        with pytest.raises(InputError, match=message):
            parse_prompt(row)

    def test_bad_files_name_the_line(self, tmp_path: Path):
        path = tmp_path / "bad.jsonl"
        path.write_text('{"tag": "colors", "prompt": "x", "include": [{"class": "dog", "count": 1}]}\n{oops\n')
        with pytest.raises(InputError, match=r"bad\.jsonl, line 2: not JSON"):
            read_prompts(path)
        with pytest.raises(InputError, match="cannot read"):
            read_prompts(tmp_path / "none.jsonl")

    @pytest.mark.skipif(not OFFICIAL.exists(), reason="the official prompt set is not here")
    def test_the_official_prompts_parse_and_serialise_unchanged(self):
        prompts = read_prompts(OFFICIAL)
        tags = ["single_object", "two_object", "counting", "colors", "position", "color_attr"]
        counts = {tag: sum(p.tag == tag for p in prompts) for tag in tags}
        assert list(counts.values()) == [80, 99, 80, 94, 100, 100] and len(prompts) == 553
        rows = [json.loads(line) for line in OFFICIAL.read_text().splitlines()]
        assert [prompt.to_json() for prompt in prompts] == rows
        held = [p.include[1].relation for p in prompts if p.tag == "position"]
        assert [held.count(name) for name in RELATIONS] == [19, 27, 26, 28]

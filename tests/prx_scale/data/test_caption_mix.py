"""Captions are drawn by kind with the shares asked for, among those a sample has, and the same at every call."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prx_scale.data.captions import (
    Caption,
    CaptionMix,
    CaptionTable,
    caption_mix,
    check_kinds,
    class_caption,
    draw_kinds,
    read_classes,
)
from prx_scale.data.samples import Skip
from prx_scale.errors import InputError

BOTH = {"original": "a dog", "synthetic": "A brown dog runs over wet sand."}
N = 4000


def mix_of(**keys: object) -> CaptionMix:
    return caption_mix(CaptionTable(**keys))  # type: ignore[arg-type]


def kinds_of(mix: CaptionMix, captions: dict[str, str], label: str | None = None, seed: int = 0) -> Counter[str]:
    chosen = [mix.choose(captions, label, seed=seed, index=index) for index in range(N)]
    return Counter(each.kind if isinstance(each, Caption) else each for each in chosen)


def within(count: int, share: float) -> bool:
    """Whether a count lies within 4 standard errors of its share of N draws."""
    return abs(count - N * share) <= 4 * math.sqrt(N * share * (1 - share))


def test_half_and_half() -> None:
    counts = kinds_of(mix_of(kinds=("original", "synthetic"), weights=(0.5, 0.5)), BOTH)
    assert within(counts["original"], 0.5) and counts.total() == counts["original"] + counts["synthetic"]


def test_weights_have_any_unit_and_missing_kinds_leave_theirs_to_the_others() -> None:
    mix = mix_of(kinds=("long", "original", "synthetic"), weights=(6.0, 3.0, 1.0))
    counts = kinds_of(mix, BOTH)
    assert within(counts["original"], 0.75) and within(counts["synthetic"], 0.25)
    counts = kinds_of(mix, {**BOTH, "long": "x"}, seed=1)
    assert within(counts["long"], 0.6) and within(counts["original"], 0.3) and within(counts["synthetic"], 0.1)


@pytest.mark.parametrize("empty", ["", "  \n\t"])
def test_empty_captions_count_as_missing(empty: str) -> None:
    mix = mix_of(kinds=("original", "synthetic"), weights=(9.0, 1.0))
    assert kinds_of(mix, {"original": empty, "synthetic": "x"}) == {"synthetic": N}


def test_without_any_kind_a_sample_is_left_out_or_has_the_empty_caption() -> None:
    skipping, keeping = mix_of(kinds=("long",)), mix_of(kinds=("long",), missing="empty")
    assert skipping.choose(BOTH, "dog", seed=0, index=0) is Skip.NO_CAPTION
    assert keeping.choose(BOTH, "dog", seed=0, index=0) == Caption(kind="empty", text="")


def test_a_draw_is_named_by_seed_and_index() -> None:
    """The first draws of seed 7, fixed for good: another caption would not fit the text states that are stored."""
    mix = mix_of(kinds=("original", "synthetic"), weights=(0.5, 0.5))
    draws = [mix.choose(BOTH, None, seed=7, index=index) for index in (*range(8), 10**12)]
    assert "".join(each.kind[0] for each in draws if isinstance(each, Caption)) == GOLDEN
    again = [mix.choose(BOTH, None, seed=7, index=index) for index in (10**12, *reversed(range(8)))]
    assert again[::-1] == draws
    other = [mix.choose(BOTH, None, seed=8, index=index) for index in range(64)]
    assert other != [mix.choose(BOTH, None, seed=7, index=index) for index in range(64)]


def test_many_samples_are_drawn_at_once_as_one_by_one() -> None:
    mix = mix_of(kinds=("original", "long", "synthetic"), weights=(1.0, 2.0, 3.0))
    indices = np.arange(50, 250)
    available = np.tile([True, False, True], (200, 1))
    available[::3, 2], available[::6, 0] = False, False
    kinds = mix.choose_kinds(available, seed=4, indices=indices).tolist()
    for index, has, kind in zip(indices.tolist(), available, kinds, strict=True):
        captions = {name: "x" for name, there in zip(mix.kinds, has, strict=True) if there}
        one = mix.choose(captions, None, seed=4, index=index)
        assert one == (Caption(kind=mix.kinds[kind], text="x") if kind >= 0 else Skip.NO_CAPTION)
    assert set(kinds) == {-1, 0, 2}


GOLDEN = "ssosossso"


@given(
    available=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=20),
    weights=st.lists(st.floats(1e-9, 1e9), min_size=3, max_size=3),
    uniform=st.floats(0, 1, exclude_max=True) | st.just(math.nextafter(1, 0)),
)
def test_only_kinds_that_a_sample_has_are_drawn(
    available: list[list[bool]], weights: list[float], uniform: float
) -> None:
    chosen = draw_kinds(np.array(available), weights, np.full(len(available), uniform))
    for has, kind in zip(available, chosen.tolist(), strict=True):
        assert has[kind] if any(has) else kind == -1


@given(weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=6), uniform=st.floats(0, 1, exclude_max=True))
def test_kinds_divide_the_unit_interval_in_proportion(weights: list[float], uniform: float) -> None:
    kind = int(draw_kinds(np.ones((1, len(weights)), dtype=bool), weights, np.array([uniform]))[0])
    total = sum(weights)
    assert sum(weights[:kind]) / total <= uniform + 1e-12
    assert uniform <= sum(weights[: kind + 1]) / total + 1e-12


def test_classes_become_captions_of_a_random_name_in_a_random_template() -> None:
    mix = mix_of(kinds=("class",), templates=("a photo of a {class}", "a {class}", "{class}, close up"))
    names = Counter(
        each.text
        for index in range(N)
        if isinstance(each := mix.choose({}, "tench, Tinca tinca", seed=0, index=index), Caption)
    )
    assert len(names) == 6 and all(within(count, 1 / 6) for count in names.values())
    assert {"a photo of a Tinca tinca", "tench, close up"} <= set(names)
    assert mix.choose({}, None, seed=0, index=0) is Skip.NO_CAPTION
    assert mix.choose({}, " , ", seed=0, index=0) is Skip.NO_CAPTION


def test_classes_mix_with_captions() -> None:
    mix = mix_of(kinds=("class", "original"), weights=(1.0, 3.0))
    counts = kinds_of(mix, BOTH, "dog")
    assert within(counts["class"], 0.25) and within(counts["original"], 0.75)
    assert kinds_of(mix, BOTH) == {"original": N}


def test_the_default_template_is_that_of_the_papers() -> None:
    assert class_caption(["tench"], CaptionTable().templates, 0.99, 0.99) == "a photo of a tench"


def test_names_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"0": ["tench", "Tinca tinca"], "n01443537": "goldfish"}')
    (tmp_path / "names.txt").write_text("tench, Tinca tinca\ngoldfish\n")
    assert read_classes(tmp_path / "names.json", "") == {"0": ("tench", "Tinca tinca"), "n01443537": ("goldfish",)}
    assert read_classes(tmp_path / "names.txt", "") == {"0": ("tench", "Tinca tinca"), "1": ("goldfish",)}
    mix = caption_mix(CaptionTable(kinds=("class",), classes="names.txt"), folder=tmp_path)
    assert mix.choose({}, "1", seed=0, index=0) == Caption(kind="class", text="a photo of a goldfish")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names.json", "[1]", 'expected {"label": "name"}'),
        ("names.json", '{"0": 3}', 'expected {"label": "name"}'),
        ("names.json", '{"0": ["", " "]}', "the class 0 has no name"),
        ("names.json", "{", "not valid JSON"),
        ("names.txt", "tench\n\ngoldfish\n", "the class 1 has no name"),
        ("missing.txt", None, "cannot be read"),
    ],
)
def test_files_of_names_that_are_none_are_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=r"\[captions\] classes: ") as refusal:
        caption_mix(CaptionTable(kinds=("class",), classes=name), folder=tmp_path)
    assert message in str(refusal.value) and name in str(refusal.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (CaptionTable(kinds=()), "kinds: [] must be at least one kind, each once"),
        (CaptionTable(kinds=("a", "a"), weights=(1.0, 1.0)), "each once"),
        (CaptionTable(kinds=("empty",)), "'empty' is no kind of caption"),
        (CaptionTable(kinds=("a", "b")), "weights: 1 for 2 kinds; one for each"),
        (CaptionTable(weights=(0.0,)), "must all be above 0"),
        (CaptionTable(weights=(float("nan"),)), "must all be above 0"),
        (CaptionTable(kinds=("class",), templates=()), "needs at least one"),
        (CaptionTable(templates=("a photo",)), "'a photo' must have {class} once"),
        (CaptionTable(templates=("{class} {name}",)), "must have {class} once"),
        (CaptionTable(templates=("{class",)), "must have {class} once"),
    ],
)
def test_tables_that_cannot_be_right_are_refused(table: CaptionTable, message: str) -> None:
    with pytest.raises(InputError, match=r"study.toml: \[captions\]") as refusal:
        caption_mix(table, "study.toml: [captions]")
    assert message in str(refusal.value)


def test_kinds_that_no_sample_has_are_refused() -> None:
    mix = mix_of(kinds=("original", "synthetc"), weights=(1.0, 1.0))
    with pytest.raises(InputError, match="did you mean 'synthetic'"):
        check_kinds(mix, ["original", "synthetic"])
    check_kinds(mix_of(), ["original", "synthetic"])

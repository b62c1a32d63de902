"""Scorers without models: sizes, lengths, what the source says, and the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prx_scale.data.filters.base import Caption, Scorer, Seen
from prx_scale.data.filters.choosing import Choice
from prx_scale.data.filters.custom import CustomScorer
from prx_scale.data.filters.plain import hash_scorer, length_scorer, size_scorer, source_scorer
from prx_scale.data.filters.scoring import check_names
from prx_scale.data.samples import RawSample
from prx_scale.data.sources import Fields, open_source
from prx_scale.errors import InputError
from tests.prx_scale.data.filter_data import write_shards

ZEROS = np.zeros((8, 8, 3), dtype=np.uint8)


def seen(**told: object) -> Seen:
    sample = RawSample(key="a.tar/0", image=b"12345", **told)  # type: ignore[arg-type]
    return Seen(sample=sample, size=(30, 40), pixels=ZEROS)


def scores(scorer: Scorer, *samples: Seen) -> dict[str, list[object]]:
    prepared = [scorer.prepare(each) for each in samples]
    return {name: list(values) for name, values in scorer.score(prepared).items()}


def test_sizes_are_of_the_upright_image() -> None:
    assert scores(size_scorer(), seen()) == {
        "height": [30],
        "width": [40],
        "min_side": [30],
        "pixels": [1200],
        "aspect": [40 / 30],
        "file_bytes": [5],
    }


def test_lengths_are_of_the_caption_that_is_asked_for() -> None:
    two = seen(captions={"long": "a red house by the sea", "original": " house"})
    assert scores(length_scorer(Caption()), two, seen()) == {"caption_chars": [6, None], "caption_words": [1, None]}
    assert scores(length_scorer(Caption(kind="long")), two)["caption_words"] == [6]
    assert scores(length_scorer(Caption(kind="short")), two)["caption_words"] == [None]
    assert scores(length_scorer(Caption()), seen(captions={"long": "one two"}))["caption_words"] == [2]


def test_what_the_source_says_is_taken_over() -> None:
    scorer = source_scorer({"watermark": "json.pwatermark", "cluster": "json.c"})
    first, second = seen(scores={"watermark": 0.5, "cluster": 3.0}, label="cat"), seen(scores={"cluster": 4.0})
    assert scores(scorer, first, second) == {"watermark": [0.5, None], "cluster": [3.0, 4.0], "label": ["cat", None]}


def test_whatever_changes_a_score_changes_the_hash() -> None:
    names = [length_scorer(Caption()), length_scorer(Caption(kind="long")), size_scorer(), hash_scorer()]
    names += [length_scorer(Caption(field="json.llava")), *Choice(fields=Fields(image="png")).light()[:1]]
    names += [source_scorer({"a": "x"}), source_scorer({"a": "y"}), source_scorer({"b": "x"})]
    assert len({scorer.hash for scorer in names}) == len(names)
    assert size_scorer().hash == size_scorer().hash


OWN = """
class Redness:
    side = 64

    def __init__(self):
        self.calls = 0

    def __call__(self, batch):
        return [float(each.pixels[..., 0].mean()) if each.sample.captions else None for each in batch]

def domain(batch):
    return [each.sample.captions["original"].split()[-1] for each in batch]

domain.text = True

def too_few(batch):
    return [1.0] * (len(batch) - 1)

def wrong(batch):
    return ["a"] * len(batch)

def fails(batch):
    raise RuntimeError("no memory")

class Unmade:
    def __init__(self):
        raise OSError("no weights")

number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_a_scorer_of_ones_own_sees_pixels_and_captions(own: Path) -> None:
    scorer = CustomScorer("redness", f"{own}:Redness")
    assert scorer.columns == {"redness": "float"} and scorer.prepare.side == 64
    assert scores(scorer, seen(captions={"original": "x"}), seen()) == {"redness": [0.0, None]}
    text = CustomScorer("domain", f"{own}:domain")
    assert text.columns == {"domain": "text"} and text.prepare.side == 256
    assert scores(text, seen(captions={"original": "a b"})) == {"domain": ["b"]}


def test_other_code_is_another_scorer(own: Path) -> None:
    before = CustomScorer("r", f"{own}:Redness").hash
    assert CustomScorer("r", f"{own}:Redness").hash == before
    own.write_text(OWN + "\n# changed\n")
    assert CustomScorer("r", f"{own}:Redness").hash != before


def test_a_module_is_imported_by_name() -> None:
    assert CustomScorer("n", "tests.prx_scale.data.test_filter_scorers:zeros").score([seen()]) == {"n": [0.0]}


def zeros(batch: list[Seen]) -> list[int]:
    return [0] * len(batch)


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("missing", "has no attribute 'missing'; right is NAME=module:callable"),
        ("number", "number is a int, not a callable"),
        ("Unmade", "OSError: no weights"),
        ("", "right is NAME=module:callable"),
    ],
)
def test_what_cannot_be_called_is_refused(own: Path, attribute: str, words: str) -> None:
    with pytest.raises(InputError, match="--scorer s=") as refused:
        CustomScorer("s", f"{own}:{attribute}")
    assert words in str(refused.value)


def test_a_missing_module_or_file_is_named() -> None:
    for place, words in (("no_such:f", "No module named 'no_such'"), ("no.py:f", "no file no.py"), ("f", "right is")):
        with pytest.raises(InputError, match=words):
            CustomScorer("s", place)


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("too_few", "gave 1 values for 2 samples"),
        ("wrong", "gave 'a', which is no number; a scorer of text has text = True"),
        ("fails", "RuntimeError: no memory, for 2 samples from a.tar/0"),
    ],
)
def test_a_scorer_that_fails_is_named_with_its_samples(own: Path, attribute: str, words: str) -> None:
    scorer = CustomScorer("s", f"{own}:{attribute}")
    with pytest.raises(InputError, match="--scorer s ") as refused:
        scorer.score([scorer.prepare(seen()), scorer.prepare(seen())])
    assert words in str(refused.value)


def test_two_scores_of_one_name_are_refused(own: Path) -> None:
    twice = [size_scorer(), CustomScorer("pixels", f"{own}:Redness")]
    with pytest.raises(InputError, match="two scores are named 'pixels', of size and of pixels"):
        check_names(twice)
    with pytest.raises(InputError, match="'keep', of the table"):
        check_names([CustomScorer("keep", f"{own}:Redness")])


def test_the_choice_says_its_columns_before_models_are_loaded(tmp_path: Path, own: Path) -> None:
    choice = Choice(
        fields=Fields(scores={"watermark": "json.watermark"}),
        clip="no/such/model",
        aesthetic=tmp_path / "none",
        custom={"domain": f"{own}:domain"},
    )
    columns = choice.columns()
    assert {name for name, kind in columns.items() if kind == "text"} == {"label", "domain", "duplicate_of"}
    assert {"min_side", "aspect", "caption_words", "watermark", "clip_similarity", "aesthetic"} <= columns.keys()
    assert "phash" not in columns and "duplicate_of" not in Choice(hashes=False).columns()


def test_a_choice_that_does_not_go_together_is_refused(tmp_path: Path) -> None:
    source = open_source(str(write_shards(tmp_path, shards=1, each=4)))
    with pytest.raises(InputError, match=r"--aesthetic a.pth: .* --clip openai/clip-vit-large-patch14"):
        Choice(aesthetic=Path("a.pth")).check(source)
    with pytest.raises(InputError, match=r"--caption long: none of the first samples has such a caption; .*original"):
        Choice(caption=Caption(kind="long")).check(source)
    Choice(caption=Caption(kind="original")).check(source)

"""``prx-scale compare`` as a user runs it: the shipped example, its JSON and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tyro

from prx_scale.commands.compare import Compare
from prx_scale.errors import InputError

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "overtraining" / "overtraining_c4_val.csv")


def run(*arguments: str) -> int:
    return tyro.cli(
        Compare, args=[EXAMPLE, "--by", "train_set", "--bootstrap", "40", "--vary", "E,A", *arguments]
    ).run()


def test_the_example_says_what_the_training_sets_change(capsys):
    assert run("--baseline", "rpj") == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "rpj (35), c4_original (34), rw_original (35); baseline rpj",
        "37 independent units, 34 of them places where several variants ran",
        "Letting E differ between rpj, c4_original and rw_original and sharing the rest explains the points best",
        "c4_original lowers E by 7.2% (80% interval",
        "nothing speaks for a different A",
        "c4_original needs 0.319 times the compute (80% interval",
    ):
        assert words in printed


def test_json_on_standard_output_is_json_only(capsys):
    assert run("--json", "-") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["baseline"] == "rpj"  # the first of those with most rows
    assert document["candidates"][0]["vary"] == ["E"]
    assert document["candidates"][-1]["p_value"] is None
    assert document["provenance"]["bootstrap"] == 40


def test_the_json_file_is_named(tmp_path, capsys):
    assert run("--json", str(tmp_path / "c.json")) == 0
    assert f"wrote {tmp_path / 'c.json'}" in capsys.readouterr().out
    assert json.loads((tmp_path / "c.json").read_text())["law"] == "chinchilla"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--baseline", "c4"], "no variant is called 'c4': valid: c4_original, rpj, rw_original"),
        (["--vary", "E,gamma"], "has no parameter gamma"),
        (["--by", "trainset"], "no column 'trainset'"),
        (["--where", "train_set=rpj"], "all points are of one variant"),
    ],
)
def test_refusals_are_input_errors(arguments, words):
    with pytest.raises(InputError, match=words):
        run(*arguments)

"""``prx-scale backtest`` as a user runs it: the shipped example, its outputs and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tyro

from prx_scale.commands.backtest import Backtest
from prx_scale.errors import InputError

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "overtraining" / "overtraining_c4_val.csv")
FAST = ["--where", "train_set=rpj", "--bootstrap", "20"]


def run(*arguments: str) -> int:
    return tyro.cli(Backtest, args=[EXAMPLE, *FAST, *arguments]).run()


def test_the_example_is_ranked(capsys):
    assert run("--max-cuts", "3") == 0
    printed = capsys.readouterr().out
    for words in ("35 points of 104 rows", "3 cuts of 24 possible", "laws, best first", "power_floor:flops by cut"):
        assert words in printed
    assert "[best-law] chinchilla extrapolates best" in printed


def test_json_on_standard_output_is_json_only(capsys):
    assert run("--law", "chinchilla", "--cut", "5e21", "--json", "-") == 0
    document = json.loads(capsys.readouterr().out)
    (cut,) = document["cuts"]
    assert (cut["law"], cut["n_fit"], cut["n_test"]) == ("chinchilla", 33, 2)
    assert cut["extrapolation"] == pytest.approx(12.2, abs=0.05)
    assert document["provenance"]["bootstrap"] == 20
    assert document["provenance"]["columns"]["loss"] == "loss"


def test_json_is_written_to_a_file(tmp_path, capsys):
    target = tmp_path / "out" / "backtest.json"
    assert run("--cut", "1e20", "--bootstrap", "0", "--json", str(target)) == 0
    assert json.loads(target.read_text())["n_cuts"] == 1
    printed = capsys.readouterr().out
    assert f"wrote {target}" in printed
    assert "no intervals" in printed
    assert "[few-cuts] Only one cut was made" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--law", "chinchila"], "overtraining_c4_val.csv: no law is called 'chinchila'"),
        (["--cut", "lots"], "--cut lots: 'lots' is not a number"),
        (["--cut", "1e30"], "no row at or above it"),
        (["--where", "params<12e6"], "the fit needs"),
    ],
)
def test_refusals_are_input_errors(arguments, words):
    with pytest.raises(InputError, match=words):
        run(*arguments)

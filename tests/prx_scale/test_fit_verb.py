"""``prx-scale fit`` as a user runs it: the shipped example, its outputs and its refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from prx_scale.commands.fit import Fit, parse_target
from prx_scale.commands.text import parse_quantity
from prx_scale.errors import InputError
from scaling import FitResult

ROOT = Path(__file__).parents[2]
EXAMPLE = str(ROOT / "examples" / "overtraining" / "overtraining_c4_val.csv")
FAST = ["--where", "train_set=rpj", "--bootstrap", "50"]


def run(*arguments: str) -> int:
    return tyro.cli(Fit, args=[EXAMPLE, *FAST, *arguments]).run()


def test_the_example_prints_its_law(capsys):
    assert run("--predict", "params=6.9B,tokens=138B", "--predict", "params=1.3e9,flops=1e23") == 0
    printed = capsys.readouterr().out
    for words in ("L = E + A N^-alpha + B D^-beta", "35 points of 104 rows", "0.243084", "0.0004265108272", "N* ~ C^a"):
        assert words in printed
    assert "warning [extrapolation]" in printed
    assert "data = tokens" in printed


def test_json_on_standard_output_is_json_only(capsys):
    assert run("--json", "-", "--predict", "flops=1e22") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["objective"] == pytest.approx(4.26510827e-04, rel=1e-8)
    assert document["provenance"]["columns"]["cluster"] == "run"
    assert document["provenance"]["bootstrap"] == 50
    best = document["predictions"][0]
    assert best["flops"] == pytest.approx(1e22, rel=1e-9)
    result = FitResult.from_json(document)
    assert result.predict(best["params"], best["data"]) == pytest.approx(best["loss"], rel=1e-12)


def test_loss_and_kind_of_interval_are_chosen_and_said(capsys):
    chosen = ["--loss", "least-squares", "--intervals", "profile", "--predict", "params=6.9B,tokens=138B"]
    assert run(*chosen, "--json", "-") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["intervals"], document["criteria"]["likelihood"]) == ("profile", "normal on log loss")
    (prediction,) = document["predictions"]
    low, high = prediction["mean_interval"]
    assert low < prediction["loss"] < high
    assert run(*chosen) == 0
    printed = capsys.readouterr().out
    for words in ("half squared log loss, summed", "intervals: profile", "AICc", "BIC"):
        assert words in printed


def test_delta_and_asymmetry_reach_the_fit(capsys):
    assert run("--delta", "1e-2", "--asymmetry", "10", "--intervals", "delta") == 0
    assert "huber(0.01) on log loss, summed; rows below the curve count 10-fold" in capsys.readouterr().out


def test_files_are_written_whole(tmp_path, capsys):
    fit, page = tmp_path / "out" / "fit.json", tmp_path / "out" / "fit.html"
    assert run("--json", str(fit), "--html", str(page), "--level", "0.9") == 0
    assert json.loads(fit.read_text())["level"] == 0.9
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")
    assert sorted(path.name for path in fit.parent.iterdir()) == ["fit.html", "fit.json"]
    assert f"wrote {fit}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--law", "chinchila"], "did you mean 'chinchilla'"),
        (["--loss", "l1"], "no loss is called 'l1': valid: huber, least-squares, lad, linear"),
        (["--intervals", "profile"], "profile intervals need a likelihood"),
        (["--intervals", "wald"], "no intervals are called 'wald'"),
        (["--asymmetry", "0"], "asymmetry is 0"),
        (["--law", "power_floor"], "power_floor:params"),
        (["--predict", "params=1B,samples=1M"], "count data in tokens"),
        (["--predict", "params=1B"], "give two of params, data and flops"),
        (["--where", "params<12e6", "--where", "tokens_per_param>100"], "cannot determine the 5 parameters"),
        (["--level", "80"], "level is 80"),
    ],
)
def test_refusals_are_input_errors(arguments, words):
    with pytest.raises(InputError, match=words):
        run(*arguments)


@pytest.mark.parametrize(
    ("text", "number"), [("1.3B", 1.3e9), ("40M", 4e7), ("5e22", 5e22), ("2k", 2000), ("3T", 3e12), ("7", 7)]
)
def test_quantities(text, number):
    assert parse_quantity(text, "x") == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "B", "-1", "1.3X", "nan", "inf", "0"])
def test_bad_quantities(text):
    with pytest.raises(InputError):
        parse_quantity(text, "--predict")


def test_targets():
    assert parse_target("params=1B, data=2B") == {"params": 1e9, "data": 2e9}
    assert parse_target("flops=5e22") == {"flops": 5e22}
    for text in ("params=1B,tokens=1,data=2", "depth=3,data=1", "params"):
        with pytest.raises(InputError):
            parse_target(text)


def test_the_verb_imports_nothing_heavy():
    heavy = ("torch", "altair", "polars", "scipy", "numpy")
    code = f"import sys, prx_scale.commands.fit; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_law_of_compute_predicts_from_compute_alone(capsys):
    fit = ("--law", "power_floor:flops", "--json", "-")
    losses = []
    for target in ("flops=5e21", "params=1B,flops=5e21"):
        assert run(*fit, "--predict", target) == 0
        (prediction,) = json.loads(capsys.readouterr().out)["predictions"]
        assert prediction["flops"] == pytest.approx(5e21)
        losses.append(prediction["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)

"""Real runs with Muon, muP and a changing rate: killed and resumed, and spread over processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from prx_scale import runs
from tests.prx_scale.training.studies import run_folder, train, write_study
from tests.prx_scale.training.test_training import assert_same_weights, final_weights, kill_at

pytestmark = pytest.mark.slow

MODEL = """[model]
width = 128
mup_base_width = 64
mup_base_depth = 2
"""
TRAINING = """[training]
optimizer = "muon"
weight_decay = 0.01
lr_change_steps = [10]
lr_change_factors = [0.5]
decay_ratio = 0.25
"""


def muon_study(folder: Path) -> Path:
    """The small study, with Muon."""
    study = write_study(folder)
    text = (study / "study.toml").read_text()
    (study / "study.toml").write_text(text.replace("[model]\n", MODEL).replace("[training]\n", TRAINING))
    return study


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = muon_study(tmp_path_factory.mktemp("whole") / "small")
    done = train(study)
    assert done.returncode == 0, done.stderr
    return study


def test_the_record_tells_the_base_rate(uninterrupted: Path) -> None:
    rates = runs.load(uninterrupted, "train")["lr"].to_list()
    assert rates[0] == pytest.approx(1e-3 / 4)
    assert rates[4:10] == pytest.approx([1e-3] * 6)
    assert rates[10:15] == pytest.approx([5e-4] * 5)
    assert rates[-1] == pytest.approx(1e-4)


def test_killed_and_resumed_is_bitwise_the_uninterrupted_run(uninterrupted: Path, tmp_path: Path) -> None:
    study = muon_study(tmp_path / "small")
    kill_at(study, 8)
    done = train(study)
    assert done.returncode == 0, done.stderr
    expected = (run_folder(uninterrupted) / "validation.jsonl").read_bytes()
    assert (run_folder(study) / "validation.jsonl").read_bytes() == expected
    assert_same_weights(final_weights(study, tmp_path), final_weights(uninterrupted, tmp_path))


def test_two_processes_follow_the_curve_of_one(uninterrupted: Path, tmp_path: Path) -> None:
    study = muon_study(tmp_path / "small")
    done = train(study, processes=2)
    assert done.returncode == 0, done.stderr
    one, two = (runs.load(each, "train") for each in (uninterrupted, study))
    # Newton-Schulz runs in bfloat16, which can turn a last float32 digit of the gradient into one of its own.
    assert (one["loss"] - two["loss"]).abs().max() < 1e-4  # type: ignore[operator]

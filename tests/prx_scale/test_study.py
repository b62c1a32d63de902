"""A study file becomes runs with stable ids; whatever cannot be right is refused with file, key and nearest name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prx_scale import study
from prx_scale.errors import InputError

BASE = """
[study]
name = "ladder"
[model]
depth = [1, 2]
patch = 4
[training]
steps = 100
seed = [0, 1]
"""

CHANGES = """
[[variant]]
name = "x"
training.lr_change_steps = {}
training.lr_change_factors = {}
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "s.toml"
    file.write_text(text)
    return file


def load(tmp_path: Path, text: str) -> study.Study:
    return study.load(write(tmp_path, text))


def test_lists_are_swept_against_each_other(tmp_path: Path) -> None:
    loaded = load(tmp_path, BASE)
    assert [(run.model.depth, run.training.seed) for run in loaded.runs] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert loaded.folder == tmp_path / "ladder"
    assert len({run.id for run in loaded.runs}) == 4
    assert loaded.runs[0].id.startswith("d1-s0-")


def test_variant_overrides_end_or_start_sweeps(tmp_path: Path) -> None:
    loaded = load(tmp_path, BASE + '[[variant]]\nname = "big"\nmodel.depth = 4\ntraining.lr = [1e-3, 2e-3]\n')
    big = [run for run in loaded.runs if run.variant == "big"]
    assert len(loaded.runs) == 4 + 4
    assert {(run.model.depth, run.training.lr) for run in big} == {(4, 1e-3), (4, 2e-3)}
    assert all("-big-" in run.id for run in big)


def test_a_rate_change_for_one_depth_is_a_variant(tmp_path: Path) -> None:
    changed = CHANGES.format("[60]", "[0.5]") + "model.depth = 38\ntraining.seed = 0\n"
    loaded = load(tmp_path, BASE + changed)
    changes = {run.model.depth: run.training.lr_change_steps for run in loaded.runs}
    assert changes == {1: (), 2: (), 38: (60,)}
    (deep,) = (run for run in loaded.runs if run.variant == "x")
    assert study.run_from_json(json.loads(json.dumps(deep.to_json())), "run.json") == deep


def test_id_is_of_what_changes_the_result(tmp_path: Path) -> None:
    plain = load(tmp_path, BASE).runs[0].id
    for harmless in ("[logging]\nevery = 7\n", "[evaluation]\nguidance = 5.0\n", "[checkpoint]\nevery = 3\n"):
        assert load(tmp_path, BASE + harmless).runs[0].id == plain
    assert load(tmp_path, BASE + "[data]\nseed = 1\n").runs[0].id != plain
    assert load(tmp_path, BASE.replace("steps = 100", "steps = 101")).runs[0].id != plain
    assert load(tmp_path, BASE + "[data]\nlong_captions = 0.5\n").runs[0].id == plain


def test_config_round_trips_through_run_json(tmp_path: Path) -> None:
    run = load(tmp_path, BASE).runs[3]
    assert study.run_from_json(json.loads(json.dumps(run.to_json())), "run.json") == run


def test_run_is_chosen_by_unambiguous_beginning(tmp_path: Path) -> None:
    loaded = load(tmp_path, BASE)
    assert loaded.run("d2-s1").model.depth == 2
    assert loaded.run(loaded.runs[0].id) is loaded.runs[0]
    with pytest.raises(InputError, match="it could be"):
        loaded.run("d1")
    with pytest.raises(InputError, match="valid: d1-s0"):
        loaded.run("d3-s0")
    with pytest.raises(InputError, match="4 runs, so --run is needed"):
        loaded.run(None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[modle]\ndepth = 1\n", r"s\.toml: \[modle\] is not a table of a study file; did you mean 'model'"),
        ("[data]\nsede = 1\n", r"\[data\] sede: unknown key; did you mean 'seed'"),
        ("[data]\nseed = 1.5\n", r"\[data\] seed: expected a whole number, found 1\.5"),
        ("[data]\nseed = true\n", r"\[data\] seed: expected a whole number, found true"),
        ('[data]\nimage_size = "16"\n', r"\[data\] image_size: expected a whole number, found '16'"),
        ('[data]\ndataset = "shape"\n', r"\[data\] dataset: 'shape' is not a choice; did you mean 'shapes'"),
        ("[data]\nseed = -1\n", r"\[data\] seed: -1 is too small; at least 0"),
        ("[data]\nlong_captions = 2\n", r"long_captions: 2\.0 is too large; at most 1"),
        ("[validation]\nevery = [1, 2]\n", r"\[validation\] every: a list cannot be swept here; only in \[model\]"),
        ("[data]\nseed = []\n", r"\[data\] seed: an empty list leaves no run"),
        ("[data]\nencoders = true\n", r"encoders: true \(true or false\) is not a choice"),
        ('[data]\ndataset = "random"\nimage_size = 48\n', r"patch: 4 of latents of 8 pixels does not divide .* 48"),
        ("[data]\nimage_size = 18\n", r"patch: 4 does not divide \[data\] image_size 18"),
        ("[parallel]\nmicro_batch = 5\n", r"micro_batch: 5 does not divide \[training\] batch 64"),
        ('[[variant]]\nname = "x"\nmodel.mup_base_width = 96\n', r"mup_base_width: 96 is not a multiple of 64"),
        ('[[variant]]\nname = "x"\ntraining.muon_lr = -0.1\n', r"\[training\] muon_lr: -0\.1 is too small"),
        ('[[variant]]\nname = "x"\ntraining.optimizer = "moun"\n', r"optimizer: 'moun' is not a choice.*'muon'"),
        ('[[variant]]\nname = "x"\ntraining.lr_change_steps = [9]\n', r"lr_change_factors: 0 for 1 lr_change_steps"),
        (CHANGES.format("[100]", "[0.5]"), r"lr_change_steps: \[100\] must ascend and lie in 1 to 99"),
        (CHANGES.format("[20, 10]", "[0.5, 0.1]"), r"lr_change_steps: \[20, 10\] must ascend"),
        (CHANGES.format("[20]", "[0.0]"), r"lr_change_factors: \[0\.0\] must all be above 0"),
        (CHANGES.format("20", "[0.5]"), r"lr_change_steps: expected a list, found 20"),
        (
            '[[variant]]\nname = "x"\ntraining.decay_ratio = 0.6\n',
            r"decay_ratio: 0\.6 of 100 steps overlaps the warm-up of 50",
        ),
        ("[checkpoint]\nkeep = 1\n", r"keep: 1 could leave none"),
        ('[fit]\nholdout = ["bgi"]\n', r"\[fit\] holdout: no variant 'bgi'"),
        ("[[variant]]\nmodel.depth = 3\n", r"\[\[variant\]\] number 1 name: expected letters"),
        ('[[variant]]\nname = "x"\n', r"variants 'base' and 'x' make the same run"),
        ('[[variant]]\nname = "x"\nmodle.depth = 3\n', r"\[\[variant\]\] number 1 modle: unknown key"),
        ('[[variant]]\nname = "x"\nmodel.dpeth = 3\n', r"'x' \[model\] dpeth: unknown key; did you mean 'depth'"),
        ('[variant]\nname = "x"\n', r"written \[\[variant\]\], with two brackets"),
    ],
)
def test_what_cannot_be_right_is_refused(change: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, BASE + change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; a study needs"),
        ("[study]\nname = 'x'\n[training]\nsteps = 1\n", r"\[model\] is missing"),
        (BASE.replace("depth = [1, 2]\n", ""), r"\[model\] depth: missing"),
        (BASE.replace("steps = 100", "steps = 10"), r"warmup: 50 is more than the 10 steps"),
        (BASE.replace('"ladder"', '["a", "b"]'), r"\[study\] name: expected a text, found a list"),
        (BASE.replace("depth = [1, 2]", "depth = [1, [2]]"), r"depth: expected a whole number, found a list"),
        ("[study\n", "not valid TOML"),
    ],
)
def test_incomplete_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.toml: no such file"):
        study.load(tmp_path / "absent.toml")


def test_copy_is_kept_in_the_study_folder(tmp_path: Path) -> None:
    loaded = load(tmp_path, BASE)
    study.keep_copy(loaded)
    again = study.load(loaded.folder)
    assert again.folder == loaded.folder
    assert again.runs == loaded.runs


def test_copy_of_another_study_is_not_overwritten(tmp_path: Path) -> None:
    first = load(tmp_path, BASE)
    study.keep_copy(first)
    before = (first.folder / "study.toml").read_text()
    other = study.load(write(tmp_path, BASE.replace("ladder", "other")), first.folder)
    with pytest.raises(InputError, match="holds the study 'ladder', not 'other'"):
        study.keep_copy(other)
    assert (first.folder / "study.toml").read_text() == before
    grown = study.load(write(tmp_path, BASE.replace("[1, 2]", "[1, 2, 3]")), first.folder)
    study.keep_copy(grown)
    assert len(study.load(first.folder).runs) == 6

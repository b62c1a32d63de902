"""Runs that start from weights: which weights, whose id, on which layout, and what does not fit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prx_scale import study as studies
from prx_scale.commands.sweep import Sweep
from prx_scale.commands.train import Train
from prx_scale.errors import InputError
from prx_scale.evaluation.weights import load_model
from prx_scale.models.convert.exporting import write_own, write_transformer
from prx_scale.models.embeddings import PositionGrid
from prx_scale.models.names import WeightSizes
from prx_scale.runs import load_runs
from prx_scale.startweights import check_start, read_info
from prx_scale.study import run_from_json
from tests.prx_scale.models import convert_models as cm
from tests.prx_scale.training.studies import ENVIRONMENT, run_folder, train, write_study

GRID = PositionGrid(side=4, image=4, base=4)
START = '[training]\nsteps = 4\nbatch = 16\nwarmup = 4\nlr = 0.0\nstart_from = "{}"\n'


def of_shapes(depth: int = 1, **more: object) -> WeightSizes:
    plain = cm.sizes(depth, patch=4, channels=3, context_dim=64, pooled_dim=64)
    return replace(plain, **more)  # type: ignore[arg-type]


def weights(folder: Path, of: WeightSizes, seed: int = 1, scale: float = 0.125) -> dict[str, torch.Tensor]:
    """Write random weights of our own names, and give them."""
    folder.mkdir(parents=True)
    model = cm.build(of, GRID, seed=seed, scale=scale)
    write_own(folder, cm.exported(model, of), {})
    return {name: value.detach() for name, value in model.named_parameters()}


def starting_study(folder: Path, start: str, model: str = "", **more: object) -> Path:
    """A study of one run that starts from weights and whose rate is 0, so that it ends with them."""
    written = write_study(folder, **more)  # type: ignore[arg-type]
    file = written / "study.toml"
    head, rest = file.read_text().split("[training]")
    file.write_text(head + model + START.format(start) + "[validation]" + rest.split("[validation]")[1])
    return written


def final(study: Path, kind: str, step: int = 4) -> dict[str, torch.Tensor]:
    run = run_folder(study)
    (info,) = load_runs(run)
    model = load_model(run_from_json(info.config, "run.json"), run, step, kind)  # type: ignore[arg-type]
    return {name: value.detach() for name, value in model.named_parameters()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["", "[parallel]\ntp = 2\n"], ids=["FSDP", "TP"])
def test_a_sharded_run_starts_with_exactly_these_weights(layout: str, tmp_path: Path) -> None:
    expected = weights(tmp_path / "weights", of_shapes(depth=2))
    study = starting_study(tmp_path / "study", "../weights", depth=2, more=layout)
    done = train(study, processes=2)
    assert done.returncode == 0, done.stderr
    for kind in ("raw", "ema"):
        assert_same(final(study, kind), expected)


@pytest.mark.slow
def test_torchtitan_starts_from_and_saves_diffusers_files_on_its_own(tmp_path: Path) -> None:
    of = of_shapes()
    (tmp_path / "transformer").mkdir()
    write_transformer(tmp_path / "transformer", cm.exported(cm.build(of, GRID), of))
    study = write_study(tmp_path / "study", steps=4, lr=0.0)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("hf_checkpoints.py")
    command = [*launcher, str(script), str(study), str(tmp_path / "transformer"), str(tmp_path / "out")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (saved,) = (tmp_path / "out").glob("checkpoint/step-4/*.safetensors")
    found, expected = load_file(saved), load_file(tmp_path / "transformer" / "diffusion_pytorch_model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.slow
def test_norms_and_a_table_of_positions_can_be_added(tmp_path: Path) -> None:
    expected = weights(tmp_path / "weights", of_shapes(qk_norm=False))
    study = starting_study(tmp_path / "study", "../weights", 'positions = "learned"\n')
    done = train(study)
    assert done.returncode == 0, done.stderr
    assert "QK-norm is added, with scale 1" in done.stdout
    found = final(study, "raw")
    assert_same(final(study, "ema"), found)
    assert torch.equal(found.pop("position_table.weight"), GRID.table(64))
    norms = {name: found.pop(name) for name in list(found) if "_norm." in name}
    assert len(norms) == 4 and all(torch.equal(value, torch.ones(64)) for value in norms.values())
    assert_same(found, expected)


@pytest.mark.slow
def test_resuming_does_not_start_again(tmp_path: Path) -> None:
    weights(tmp_path / "weights", of_shapes())
    study = write_study(tmp_path / "study", steps=12)
    file = study / "study.toml"
    file.write_text(file.read_text().replace("warmup = 4", 'warmup = 4\nstart_from = "../weights"'))
    assert train(study).returncode == 0
    run = run_folder(study)
    rows, expected = (run / "validation.jsonl").read_bytes(), final(study, "ema", 12)
    # As a kill after the checkpoint of step 6 leaves it, and on a machine that no longer has the weights.
    shutil.rmtree(run / "checkpoint" / "step-12")
    shutil.rmtree(tmp_path / "weights")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "state": "running"}))
    done = train(study)
    assert done.returncode == 0, done.stderr
    assert (run / "validation.jsonl").read_bytes() == rows
    assert_same(final(study, "ema", 12), expected)


def test_weights_changed_after_launch_are_refused_before_anything_starts(tmp_path: Path) -> None:
    weights(tmp_path / "weights", of_shapes())
    study = starting_study(tmp_path / "study", "../weights")
    studies.keep_copy(studies.load(study))
    shutil.rmtree(tmp_path / "weights")
    weights(tmp_path / "weights", of_shapes(), seed=2)
    for verb in (Train(study=study), Sweep(study=study, dry_run=True)):
        with pytest.raises(InputError, match=r"study\.toml: \[training\] start_hash: .* has weights of .* now"):
            verb.run()
    shutil.rmtree(tmp_path / "weights")
    with pytest.raises(InputError, match="no such folder"):
        Train(study=study).run()
    assert not (study / "runs").exists()


def test_the_id_is_that_of_the_weights_not_of_their_place(tmp_path: Path) -> None:
    def id_of(start: str, folder: str) -> str:
        (run,) = studies.load(starting_study(tmp_path / folder, start)).runs
        assert run.training.start_hash == read_info(Path(run.training.start_from)).hash
        assert run_from_json(run.to_json(), "run.json") == run
        return run.id

    weights(tmp_path / "a", of_shapes())
    weights(tmp_path / "same", of_shapes())
    weights(tmp_path / "b", of_shapes(), seed=2)
    one = id_of("../a", "one")
    assert one == id_of(str(tmp_path / "same"), "two")
    assert one != id_of("../b", "three")
    (scratch,) = studies.load(write_study(tmp_path / "four", steps=4, lr=0.0)).runs
    assert scratch.id != one and "start_from" not in str(scratch.identity)


def test_a_copy_of_the_study_file_knows_its_weights_wherever_it_is(tmp_path: Path) -> None:
    weights(tmp_path / "files" / "weights", of_shapes())
    file = starting_study(tmp_path / "files", "weights") / "study.toml"
    file = file.rename(file.with_name("mine.toml"))
    loaded = studies.load(file, tmp_path / "out")
    studies.keep_copy(loaded)
    copied = studies.load(tmp_path / "out")
    assert copied.runs == loaded.runs
    shutil.rmtree(tmp_path / "files")
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert [run.id for run in studies.load(tmp_path / "elsewhere").runs] == [run.id for run in loaded.runs]


WRONG = [
    ({"depth": 2}, "", r"layers\.0\.text\.ada\.weight is \[384, 64\], the run's is \[128, 64\]"),
    ({"hidden": 128}, "", r"patch_embed\.weight is \[128, 48\], the run's is \[64, 48\].*width = 128"),
    ({"pooled_dim": 40}, "", r"pooled_embed\.first\.weight is \[64, 40\], the run's is \[64, 64\]"),
    ({}, "qk_norm = false\n", r"q_norm\.weight is \[64\], the run's model has none"),
    ({"size_conditioning": True}, "", r"size_embed\.first\.weight .* model has none.*size_conditioning = true"),
    ({"learned_side": 4}, "", r"position_table\.weight is \[4, 4, 64\], the run's model has none"),
    (
        {"learned_side": 4},
        'positions = "learned"\nposition_grid = 6\n',
        r"position_table\.weight is \[4, 4, 64\], the run's is \[6, 6, 64\]",
    ),
    ({}, 'positions = "learned"\nposition_grid = 6\n', r"position_table\.weight is missing"),
]


@pytest.mark.parametrize(("change", "model", "message"), WRONG)
def test_what_does_not_fit_is_named_with_both_shapes(
    change: dict[str, object], model: str, message: str, tmp_path: Path
) -> None:
    of = of_shapes(**change) if change.get("depth") != 2 else of_shapes(depth=2, hidden=64)
    weights(tmp_path / "weights", of)
    study = starting_study(tmp_path / "study", "../weights", model)
    with pytest.raises(InputError, match=message) as error:
        studies.load(study)
    assert "study.toml" in str(error.value) and "[training] start_from" in str(error.value)


def test_a_run_that_is_told_sizes_starts_from_weights_with_and_without_them(tmp_path: Path) -> None:
    for name, told in (("with", True), ("without", False)):
        weights(tmp_path / name, of_shapes(size_conditioning=told))
        study = starting_study(tmp_path / f"of-{name}", f"../{name}", "size_conditioning = true\n")
        assert check_start(studies.load(study).runs[0], "study.toml:") == []


def test_other_positions_are_said(tmp_path: Path) -> None:
    weights(tmp_path / "weights", of_shapes())
    (same,) = studies.load(starting_study(tmp_path / "same", "../weights")).runs
    assert check_start(same, "study.toml:") == []
    larger = starting_study(tmp_path / "larger", "../weights", "[data]\nimage_size = 24\n")
    (run,) = studies.load(larger).runs
    (note,) = check_start(run, "study.toml:")
    assert note == "positions are those of 6 patches a side (grid 6, base 6), not the weights' of 4 (grid 4, base 4)"


def test_missing_and_damaged_folders_are_refused(tmp_path: Path) -> None:
    study = starting_study(tmp_path / "study", "../weights")
    with pytest.raises(InputError, match=r"start_from: .*weights: no such folder; a folder of weights is what import"):
        studies.load(study)
    weights(tmp_path / "weights", of_shapes())
    info = tmp_path / "weights" / "weights.json"
    whole = info.read_text()
    for damage, message in (
        ("{", "not JSON"),
        ("[]", "not of schema 1"),
        (whole.replace('"depth": 1', '"depth": "1"'), r"sizes depth: expected a whole number, found '1'"),
        (whole.replace('"kind": "sin-cos"', '"kind": "cosine"'), "'cosine' is not a choice"),
        (whole.replace('"hash"', '"hush"'), "hash: expected a text"),
    ):
        info.write_text(damage)
        with pytest.raises(InputError, match=message):
            studies.load(study)
    info.write_text(whole)
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match=r"model\.safetensors: not a safetensors file"):
        studies.load(study)


def test_a_pinned_hash_must_be_that_of_the_weights(tmp_path: Path) -> None:
    weights(tmp_path / "weights", of_shapes())
    right = read_info(tmp_path / "weights").hash
    study = starting_study(tmp_path / "study", f'../weights"\nstart_hash = "{right}')
    assert studies.load(study).runs[0].training.start_hash == right
    study = starting_study(tmp_path / "other", '../weights"\nstart_hash = "beef')
    with pytest.raises(InputError, match=r"\[training\] start_hash: beef, but .* has weights of"):
        studies.load(study)
    study = starting_study(tmp_path / "none", '"\nstart_hash = "beef')
    with pytest.raises(InputError, match="start_from names no folder"):
        studies.load(study)


def test_values_that_are_not_those_of_the_hash_are_refused(tmp_path: Path) -> None:
    from prx_scale.models.convert.folder import load_into

    weights(tmp_path / "weights", of_shapes())
    file = tmp_path / "weights" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    model = cm.build(of_shapes(), GRID)
    with pytest.raises(InputError, match="its weights are not those of the run"):
        load_into(model, tmp_path / "weights", read_info(tmp_path / "weights").hash)


@torch.no_grad()
@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_model_with_another_scale_of_its_logits_starts_as_the_same_function(qk_norm: bool, tmp_path: Path) -> None:
    from prx_scale.models.convert.folder import load_into

    of = of_shapes(qk_norm=qk_norm)
    weights(tmp_path / "weights", of, scale=1 / 20)
    for scale in (1 / 20, 1 / 8, 1 / 64):
        model = cm.build(of, GRID, seed=9, scale=scale)
        load_into(model, tmp_path / "weights", read_info(tmp_path / "weights").hash)
        z, rest = cm.inputs(of)
        expected = cm.build(of, GRID, scale=1 / 20)(z, **rest)
        torch.testing.assert_close(model(z, **rest), expected, atol=1e-5, rtol=1e-5)

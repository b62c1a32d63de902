"""Real training on a store that a T5Gemma alone has encoded: masked padding, no pooled state, in several layouts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro

from prx_scale import runs
from prx_scale.commands.export import Export
from prx_scale.commands.plan import PlanVerb
from prx_scale.data.opening import open_dataset
from prx_scale.errors import InputError
from prx_scale.models.inputs import inputs_of
from prx_scale.study import load
from prx_scale.training.batches import training_batch
from prx_scale.training.coordcheck import trajectory
from tests.prx_scale.data.made import encoded, pixels, write_tar
from tests.prx_scale.models.autoencoder_folders import write_kl
from tests.prx_scale.models.encoder_folders import write_t5gemma
from tests.prx_scale.training.studies import ENVIRONMENT, ROOT, run_folder, train
from tests.prx_scale.training.test_layouts import assert_close, train_each
from tests.prx_scale.training.test_store_training import end_at
from tests.prx_scale.training.test_training import assert_same_weights, final_weights

pytestmark = pytest.mark.slow

STUDY = """
[study]
name = "masked"
[model]
depth = 2
patch = 1
position_grid = 10
[data]
dataset = "store"
path = "{store}"
image_size = 64
heldout = 0.2
[objective]
caption_dropout = 0.3
[training]
steps = 20
batch = 8
lr = 1e-3
warmup = 2
[validation]
every = 10
images = 5
levels = 3
[checkpoint]
every = 8
[logging]
every = 1
[parallel]
{parallel}
"""
LAYOUTS = {"fsdp2": "", "tp2-sequence": "tp = 2\ncheckpointing = 'full'", "cp2": "cp = 2\ncheckpointing = 'selective'"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoded by the verb: captions of 9 to 45 letters, images of two buckets."""
    folder = tmp_path_factory.mktemp("masked")
    write_kl(folder / "vae", channels=16)
    write_t5gemma(folder / "t5gemma")
    files: list[tuple[str, bytes]] = []
    for number in range(40):
        image = encoded(pixels(96 if number % 2 else 64, 64, number), "PNG")
        files += [(f"n{number}.png", image), (f"n{number}.txt", ("a red cat" * (1 + number % 5)).encode())]
    write_tar(folder / "data" / "0.tar", files)
    words = ["encode", str(folder / "data"), "--out", str(folder / "store"), "--image-encoder", f"sd3={folder}"]
    words += ["--text-encoders", f"t5gemma={folder / 't5gemma'}", "--resolution", "64"]
    command = [sys.executable, "-m", "prx_scale", *words, "--buckets", "prx", "--bucket-step", "16"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "store"


def write(folder: Path, store: Path, parallel: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text(STUDY.format(store=store, parallel=parallel))
    return folder


@pytest.fixture(scope="module")
def alone(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = write(tmp_path_factory.mktemp("alone") / "study", store)
    done = train(study)
    assert done.returncode == 0, done.stderr
    return study


def test_the_model_is_told_which_tokens_are_real(store: Path, tmp_path: Path) -> None:
    (run,) = load(write(tmp_path / "study", store)).runs
    (encoder,) = inputs_of(run.data).encoders
    assert "text t5gemma 0 256 0 16 0 0 masked" in run.data.sizes and encoder.masked
    kept = replace(run, objective=replace(run.objective, caption_dropout=0.0))
    dataset = open_dataset(kept, "train")
    batch = training_batch(kept, dataset, np.arange(8))
    assert batch.mask is not None and batch.pooled.shape == (8, 0)
    # A token of the beginning, and one for every letter.
    assert set(batch.mask.sum(1).tolist()) <= {1 + 9 * times for times in range(1, 6)}
    assert torch.equal(batch.mask, batch.context.abs().amax(2) > 0)
    dropped = training_batch(replace(run, objective=replace(run.objective, caption_dropout=1.0)), dataset, np.arange(8))
    assert dropped.mask is not None and not dropped.mask.any() and not dropped.context.any()


def test_training_resumes_bitwise(alone: Path, store: Path, tmp_path: Path) -> None:
    assert runs.load(alone, "validation")["loss"].is_finite().all()
    study = write(tmp_path / "study", store)
    assert end_at(study, 5, signal.SIGTERM) == 130
    done = train(study)
    assert done.returncode == 0, done.stderr
    expected = (run_folder(alone) / "validation.jsonl").read_bytes()
    assert (run_folder(study) / "validation.jsonl").read_bytes() == expected
    assert_same_weights(final_weights(study, tmp_path), final_weights(alone, tmp_path))
    assert runs.load(study, "train")["loss"].equals(runs.load(alone, "train")["loss"])


def test_every_layout_follows_the_curve_of_one_process(alone: Path, store: Path, tmp_path: Path) -> None:
    studies = {name: write(tmp_path / name, store, parallel) for name, parallel in LAYOUTS.items()}
    train_each(list(studies.values()), 2)
    for study in studies.values():
        assert_close(alone, study)


def test_a_plan_counts_what_is_trained(alone: Path, tmp_path: Path) -> None:
    words = [str(alone / "study.toml"), "--gpus", "2", "--json", str(tmp_path / "plan.json"), "--ac", "none"]
    assert tyro.cli(PlanVerb, args=words).run() == 0
    (plan,) = json.loads((tmp_path / "plan.json").read_text())["plans"]
    recorded = json.loads((run_folder(alone) / "run.json").read_text())
    assert plan["params_by_part"]["value"]["pooled_embed"] == recorded["parameters"]["by_part"]["pooled_embed"] == 0
    assert plan["params_total"]["value"] == recorded["parameters"]["total"]
    assert plan["flops_per_image_forward"]["value"] * 3 == recorded["flops_per_sample"]


def test_what_masks_is_exported_for_another_run_alone(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("diffusers", "stability"):
        with pytest.raises(InputError, match=f"--format {name}: .* the padding of 't5gemma', .* --format prx"):
            Export(run_dir=run_folder(alone), format=name, out=out).run()
        assert not list(tmp_path.iterdir())
    assert Export(run_dir=run_folder(alone), format="prx", out=out).run() == 0
    more = f'[[variant]]\nname = "on"\ntraining.start_from = "{out}"\n'
    with (alone / "study.toml").open() as file:
        (tmp_path / "study.toml").write_text(file.read() + more)
    assert load(tmp_path / "study.toml").runs[-1].training.start_hash


def test_the_coordinate_check_leaves_padding_out(alone: Path) -> None:
    rows = list(trajectory(load(alone).runs[0], 1))
    names = {row.quantity for row in rows}
    assert {"text", "block 0 logits", "block 0 text", "output"} <= names and "pooled" not in names
    assert all(np.isfinite(row.size) for row in rows)

"""Logs as their own writers write them: TensorBoard event files, W&B run folders, and what W&B exports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prx_scale import sources
from prx_scale.errors import InputError
from prx_scale.sources.wandb import records

SIZES = {"small": 1e6, "large": 4e6}


def loss_of(params: float, step: int) -> float:
    return 1.5 + 50 * params**-0.3 + 100 * (1000.0 * step) ** -0.4


@pytest.fixture
def tensorboard_folder(tmp_path: Path) -> Path:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    for name, params in SIZES.items():
        writer = tensorboard.SummaryWriter(tmp_path / "tb" / name)
        for step in range(1, 401, 50):
            writer.add_scalar("train/loss", 9.0, step)
        for step in (101, 201, 401):
            writer.add_scalar("validation_metrics/loss", loss_of(params, step), step)
        writer.add_text("note", "not a scalar")
        writer.add_histogram("weights", np.arange(10.0), 1)
        writer.add_hparams({"n_params": params, "optimizer": "adamw"}, {"hparam/loss": 1.0})
        writer.close()
    return tmp_path / "tb"


def test_tensorboard_runs_with_their_hyperparameters(tensorboard_folder: Path) -> None:
    loaded = sources.load([tensorboard_folder], {"tokens": "step*1000"})
    points = loaded.points
    assert points.params is not None and points.data is not None and points.cluster is not None
    expected = {(run, 1000.0 * step): loss_of(SIZES[run], step) for run in SIZES for step in (101, 201, 401)}
    found = dict(zip(zip(points.cluster.tolist(), points.data.tolist(), strict=True), points.loss, strict=True))
    assert found == pytest.approx(expected, rel=1e-6)  # events hold single precision
    assert set(zip(points.cluster.tolist(), points.params.tolist(), strict=True)) == set(SIZES.items())
    assert loaded.provenance.columns["loss"] == "validation_metrics/loss"
    assert loaded.provenance.dropped == (("no validation_metrics/loss at that step", 12),)
    assert loaded.points.steps is not None and sorted(set(loaded.points.steps)) == [101, 201, 401]


def test_tensorboard_takes_the_tag_that_is_named(tensorboard_folder: Path) -> None:
    loaded = sources.load([tensorboard_folder], {"tokens": "step*1000", "loss": "train/loss"})
    assert loaded.points.n == 16 and set(loaded.points.loss) == {9.0}


def test_a_resumed_tensorboard_run_counts_the_later_value(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    for suffix, loss in ((".0", 3.0), (".1", 2.0)):
        writer = tensorboard.SummaryWriter(tmp_path, filename_suffix=suffix)
        writer.add_scalar("val/loss", loss, 100)
        writer.close()
    (tmp_path / "hparams.yaml").write_text("model:\n  n_params: 7000\n")
    loaded = sources.load([tmp_path], {"params": "model.n_params"})
    assert loaded.points.loss.tolist() == [2.0]
    assert loaded.points.params is not None and loaded.points.params.tolist() == [7000.0]
    assert "1 values were logged again for the same step" in loaded.notices[0]
    assert loaded.points.cluster is not None and loaded.points.cluster.tolist() == [tmp_path.name]


WANDB_SCRIPT = """
import os, sys
os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
import wandb
for name, params in {sizes!r}.items():
    config = {{"n_params": int(params), "model": {{"depth": 3}}}}
    run = wandb.init(project="p", dir=sys.argv[1], name=name, config=config)
    for step in (100, 200, 400):
        run.log({{"train/loss": 9.0, "tokens": 1000.0 * (step - 1)}}, step=step - 1)
        run.log({{"val/loss": params / step, "note": "text"}}, step=step)
    run.log({{"val/loss": float("nan")}}, step=500)
    run.finish()
"""


@pytest.fixture(scope="module")
def wandb_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("offline")
    script = WANDB_SCRIPT.format(sizes=SIZES)
    home = {"HOME": str(folder), "WANDB_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, timeout=120, env={**os.environ, **home})
    return folder / "wandb"


def test_wandb_run_folders(wandb_folder: Path) -> None:
    with pytest.raises(InputError, match="column 'val/loss' is nan, and loss must be finite"):
        sources.load([wandb_folder])
    loaded = sources.load([wandb_folder], drop_bad_rows=True)
    points = loaded.points
    assert points.params is not None and points.data is not None and points.cluster is not None
    # Tokens were logged a step before the loss: the last value logged in the run counts.
    expected = {(run, 1000.0 * (step - 1)): SIZES[run] / step for run in SIZES for step in (100, 200, 400)}
    found = dict(zip(zip(points.cluster.tolist(), points.data.tolist(), strict=True), points.loss, strict=True))
    assert found == pytest.approx(expected)
    assert set(zip(points.cluster.tolist(), points.params.tolist(), strict=True)) == set(SIZES.items())
    assert dict(loaded.provenance.dropped) == {"no val/loss at that step": 6, "bad value": 2}
    assert sources.load([wandb_folder], where=["model.depth=3", "n_params<2e6"], drop_bad_rows=True).points.n == 3


def test_a_torn_wandb_file_gives_what_is_whole_and_a_damaged_one_is_refused(wandb_folder: Path, tmp_path: Path) -> None:
    source = next(wandb_folder.glob("offline-run-*/*.wandb"))
    whole = source.read_bytes()
    torn = tmp_path / "run-torn.wandb"
    torn.write_bytes(whole[:-5])
    assert "ends in the middle of a record" in sources.load([tmp_path], drop_bad_rows=True).notices[0]
    torn.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(InputError, match="a checksum does not hold"):
        sources.load([tmp_path])
    torn.write_bytes(b"something else")
    with pytest.raises(InputError, match="not a run file of W&B"):
        sources.load([tmp_path])


def test_wandb_records_that_span_blocks(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    script = (
        "import os, sys\nos.environ.update(WANDB_MODE='offline', WANDB_SILENT='true')\nimport wandb\n"
        "run = wandb.init(project='p', dir=sys.argv[1], name='r', config={'blob': 'x' * 100_000, 'params': 5})\n"
        "[run.log({'val/loss': 1.0 + 1 / i, 'tokens': i}, step=i) for i in range(1, 301)]\nrun.finish()\n"
    )
    home = {"HOME": str(tmp_path), "WANDB_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=120, env={**os.environ, **home})
    file = next((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert max(map(len, records(file.read_bytes(), "f"))) > 100_000  # three blocks and a bit
    assert sources.load([tmp_path / "wandb"]).points.loss.tolist() == [1.0 + 1 / i for i in range(1, 301)]


def test_a_chart_exported_from_wandb(tmp_path: Path) -> None:
    path = tmp_path / "wandb_export.csv"
    path.write_text(
        '"Step","small - val/loss","small - val/loss__MIN","small - val/loss__MAX","large - b - val/loss"\n'
        '"100","3.0","3.0","3.0","2.5"\n"200","2.5","2.5","2.5",""\n'
    )
    table = tmp_path / "runs.csv"
    table.write_text("run,params\nsmall,1M\nlarge - b,4M\n")
    loaded = sources.load([path], {"tokens": "step*1k"}, runs_table=table)
    points = loaded.points
    assert points.cluster is not None and points.params is not None and points.data is not None
    rows = zip(points.cluster.tolist(), points.params, points.data, points.loss, strict=True)
    assert sorted(rows) == [("large - b", 4e6, 1e5, 2.5), ("small", 1e6, 1e5, 3.0), ("small", 1e6, 2e5, 2.5)]
    assert "curves of 2 runs" in loaded.notices[0]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_histories_from_wandbs_api_are_one_run_a_file(suffix: str, tmp_path: Path) -> None:
    rows = [{"_step": 100, "tokens": 1e5}, {"_step": 101, "val/loss": 3.0}, {"_step": 201, "val/loss": 2.0}]
    for name in "ab":
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    loaded = sources.load([str(tmp_path / f"*{suffix}")], {"params": "1M"})
    assert (loaded.points.n, loaded.points.n_clusters) == (4, 2)
    assert loaded.points.data is not None and set(loaded.points.data) == {1e5}
    assert dict(loaded.provenance.dropped) == {"no val/loss at that step": 2}


def test_folders_that_cannot_be_read(tensorboard_folder: Path, wandb_folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no study, TensorBoard event files or W&B runs"):
        sources.load([empty])
    both = tmp_path / "both"
    shutil.copytree(tensorboard_folder, both / "tb")
    shutil.copytree(wandb_folder, both / "wandb", ignore_dangling_symlinks=True)
    with pytest.raises(InputError, match="holds TensorBoard event files and W&B runs"):
        sources.load([both])


@pytest.mark.parametrize(("module", "pattern"), [("tensorboard", "events.out.tfevents.1"), ("wandb", "run-a.wandb")])
def test_a_missing_library_is_named(module: str, pattern: str, tmp_path: Path) -> None:
    (tmp_path / pattern).touch()
    code = (
        f"import sys\nsys.modules[{module!r}] = None\nfrom prx_scale import sources\n"
        f"from prx_scale.errors import InputError\ntry: sources.load([{str(tmp_path)!r}])\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert f"needs {module}: pip install 'prx-scale[logs]'" in done.stdout

"""`prx-scale import-weights`: what it prints, and how it ends."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
import torch

from prx_scale import study
from prx_scale.cli import main
from prx_scale.models.embeddings import PositionGrid
from prx_scale.models.inputs import SD3
from tests.prx_scale.models import convert_models as cm

GRID = PositionGrid(side=24, image=16, base=16)
STUDY = """
[study]
name = "s"
{table}
steps = 100
[data]
dataset = "random"
image_size = 256
"""


def sd3_file(folder: Path, dtype: torch.dtype = torch.float16) -> Path:
    of = cm.sizes(2, qk_norm=False, channels=SD3.channels, context_dim=SD3.context_dim, pooled_dim=SD3.pooled_dim)
    state = cm.random_theirs("stability", of, GRID.table(of.hidden))
    typed = {name: value.to(dtype) for name, value in state.items()}
    return cm.save(typed, folder / "sd3.safetensors", prefix=cm.STABILITY_PREFIX)


def prx(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """The exit code of a command line."""
    monkeypatch.setattr(sys, "argv", ["prx-scale", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_what_it_prints_starts_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert prx(monkeypatch, "import-weights", sd3_file(tmp_path).name, "--out", "weights") == 0
    printed = capsys.readouterr().out
    for part in (
        "Stability (fused q, k, v)",
        "float16; written as float32",
        "2, 128 (2 heads of 64)",
        "QK-norm       no",
        "16, in patches of 2 x 2",
        "4096 wide, pooled 2048",
        "sin-cos, 24 a side, image 16, base 16",
        "they are rounded, by up to 2e-04",
        "an image is 32 latents",
    ):
        assert part in printed, part
    assert max(map(len, printed.splitlines())) <= 80
    table = printed[printed.index("[model]") : printed.index("These are")]
    assert tomllib.loads(table)["model"] == {
        "depth": 2,
        "patch": 2,
        "qk_norm": False,
        "positions": "sin-cos",
        "position_grid": 24,
        "position_base": 16,
    }
    (tmp_path / "study.toml").write_text(STUDY.format(table=table.rstrip()))
    (run,) = study.load(tmp_path / "study.toml").runs
    assert run.training.start_from == str(tmp_path / "weights")


def test_bad_input_exits_with_2_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = sd3_file(tmp_path).read_bytes()
    (tmp_path / "sd3.safetensors").write_bytes(whole[: len(whole) // 2])
    assert prx(monkeypatch, "import-weights", "sd3.safetensors", "--out", "weights") == 2
    error = capsys.readouterr().err
    assert "error: sd3.safetensors: " in error and "cut short" in error and "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["sd3.safetensors"]

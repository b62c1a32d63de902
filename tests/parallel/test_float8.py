"""Products in float8: which layers take part, what it changes, and what a machine without it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from parallel.titan import Linear, float8_linears
from prx_scale.models.build import sd3_shape
from prx_scale.models.embeddings import PositionGrid
from prx_scale.models.mmdit import MMDiT, mmdit_config
from prx_scale.training.titan_config import NOT_IN_FLOAT8
from tests.prx_scale.training.studies import train, write_study

HAS_TORCHAO = importlib.util.find_spec("torchao") is not None


def config() -> MMDiT.Config:
    shape = sd3_shape(depth=2, pixels=128 * 128)
    return mmdit_config(shape, channels=16, patch=2, grid=PositionGrid(side=8, image=8, base=8))


@pytest.mark.skipif(not HAS_TORCHAO, reason="torchao is not installed; .ci/run installs it for this test")
def test_only_the_large_products_of_blocks_are_in_float8_and_stay_close() -> None:
    eight = config()
    float8_linears(eight, skip=NOT_IN_FLOAT8, compiled=False, emulate=True)
    models = [each.build() for each in (config(), eight)]
    changed = {name for name, module in models[1].named_modules() if "Float8" in type(module).__name__}
    expected = {
        name
        for name, module in models[0].named_modules()
        if isinstance(module, Linear) and name.startswith("layers.") and not name.endswith(".ada")
    }
    assert changed == expected
    models[1].verify_module_protocol()
    models[0].init_weights()
    generator = torch.Generator().manual_seed(0)
    for parameter in models[0].parameters():
        torch.nn.init.normal_(parameter, std=0.03, generator=generator)
    models[1].load_state_dict(models[0].state_dict())
    models[0].positions = models[1].positions = models[0].config.grid.table(128)
    rest = {"t": torch.rand(2), "context": torch.randn(2, 154, 4096), "pooled": torch.randn(2, 2048)}
    z = torch.randn(2, 16, 16, 16)
    exact, rough = (model(z, **rest) for model in models)
    error = ((rough - exact).norm() / exact.norm()).item()
    assert 1e-5 < error < 0.05


@pytest.mark.slow
def test_a_device_without_float8_is_told_so(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this device may have float8")
    study = write_study(tmp_path / "small")
    file = study / "study.toml"
    file.write_text(file.read_text().replace("batch = 16\n", "batch = 16\nprecision = 'float8'\n"))
    done = train(study)
    assert done.returncode == 2
    assert "[training] precision: " in done.stderr and "float8" in done.stderr
    assert not (study / "runs").exists()

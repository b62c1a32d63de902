"""Groups of parameters, their optimisers and the schedule of their rates."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from parallel.titan import LRSchedules, OptimizersContainer
from prx_scale import study
from prx_scale.config import RunConfig
from prx_scale.models.mmdit import MMDiT, backbone_config
from prx_scale.training.optimizers import optimizers_config, schedule_config

STUDY = """
[study]
name = "s"
[model]
depth = 2
width = {width}
patch = 4
mup_base_width = {base}
[training]
steps = 20
warmup = 4
weight_decay = 0.1
{training}
"""


def run_of(tmp_path: Path, training: str = "", *, width: int = 128, base: int = 0) -> RunConfig:
    (tmp_path / "s.toml").write_text(STUDY.format(training=training, width=width, base=base))
    return study.load(tmp_path / "s.toml").runs[0]


def build(run: RunConfig) -> tuple[MMDiT, OptimizersContainer]:
    with torch.device("meta"):
        model = backbone_config(run).build()
    model.to_empty(device="cpu")
    with torch.no_grad():
        model.init_weights()
    return model, optimizers_config(run).build(model_parts=[model])


def options(model: MMDiT, optimizers: OptimizersContainer) -> dict[str, tuple[str, dict[str, float]]]:
    """Optimiser and options of every parameter."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (type(optimizer).__name__, group)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("base", [0, 128])
def test_plain_adamw_is_one_group(base: int, tmp_path: Path) -> None:
    (group,) = optimizers_config(run_of(tmp_path, base=base)).param_groups
    assert (group.pattern, group.optimizer_name) == (".*", "AdamW")
    assert group.optimizer_kwargs == {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def test_muon_has_the_matrices_of_tokens_and_adamw_the_rest(tmp_path: Path) -> None:
    found = options(*build(run_of(tmp_path, 'optimizer = "muon"\nmuon_lr = 0.02\nmuon_momentum = 0.9')))
    muon = {name for name, (optimizer, _) in found.items() if optimizer == "Muon"}
    assert {name.rsplit(".", 2)[1] for name in muon} == {"q", "k", "v", "out", "mlp_in", "mlp_out"}
    assert all(name.startswith("layers.") and name.endswith(".weight") for name in muon)
    assert {"layers.0.image.ada.weight", "final.linear.weight", "patch_embed.weight"} <= found.keys() - muon
    group = found["layers.0.image.q.weight"][1]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.02, 0.9, 0.1)
    assert found["layers.0.image.q.bias"][1]["lr"] == 1e-3


def test_the_embedder_of_sizes_is_adamws_and_has_the_rates_of_the_others(tmp_path: Path) -> None:
    run = run_of(tmp_path, 'optimizer = "muon"', width=256, base=64)
    found = options(*build(replace(run, model=replace(run.model, size_conditioning=True))))
    for name in ("first.weight", "first.bias", "second.weight", "second.bias"):
        assert found[f"size_embed.{name}"] == found[f"time_embed.{name}"]
    assert found["size_embed.second.weight"][0] == "AdamW"


def test_mup_gives_hidden_matrices_a_smaller_rate_and_the_same_decay_a_step(tmp_path: Path) -> None:
    found = options(*build(run_of(tmp_path, width=256, base=64)))
    rates = {name: group["lr"] for name, (_, group) in found.items()}
    assert rates["layers.1.text.q.weight"] == rates["layers.0.image.ada.weight"] == pytest.approx(2.5e-4)
    assert rates["time_embed.second.weight"] == rates["final.ada.weight"] == pytest.approx(2.5e-4)
    assert rates["final.linear.weight"] == rates["patch_embed.weight"] == rates["layers.0.image.q.bias"] == 1e-3
    assert all(group["lr"] * group["weight_decay"] == pytest.approx(1e-4) for _, group in found.values())
    assert all(group["eps"] == pytest.approx(2.5e-9) for _, group in found.values())


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_moves_matrices_as_much_at_every_width_under_mup(adjust: str, tmp_path: Path) -> None:
    norms: list[float] = []
    for width in (64, 256):
        training = f'optimizer = "muon"\nmuon_adjust = "{adjust}"\n'.replace("weight_decay = 0.1", "")
        model, optimizers = build(run_of(tmp_path, training, width=width, base=64))
        weight = model.layers["0"].image.q.weight
        before = weight.detach().clone()
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(len(name))
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["weight_decay"] = 0.0
        optimizers.step()
        norms.append(float(torch.linalg.matrix_norm(weight.detach() - before, 2)))
    assert norms[1] / norms[0] == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_state_is_float32(optimizer: str, tmp_path: Path) -> None:
    model, optimizers = build(run_of(tmp_path, f'optimizer = "{optimizer}"'))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.step()
    states = [value for each in optimizers for state in each.state.values() for value in state.values()]
    assert states and all(value.dtype == torch.float32 for value in states)


def rates(run: RunConfig, steps: int, *, resumed_at: int = 0) -> list[float]:
    """The base rate of every step, optionally with a resumption between two of them."""
    _, optimizers = build(run)
    schedule = schedule_config(run).build(optimizers=optimizers, training_steps=steps)
    found: list[float] = []
    for step in range(steps):
        if step and step == resumed_at:
            saved, moments = schedule.state_dict(), copy.deepcopy(optimizers.state_dict())
            _, optimizers = build(run)
            schedule = schedule_config(run).build(optimizers=optimizers, training_steps=steps)
            optimizers.load_state_dict(moments)
            schedule.load_state_dict(saved)
        assert isinstance(schedule, LRSchedules)
        metrics = schedule.get_metrics()
        assert all(
            group["lr"] == pytest.approx(metrics["lr/base"] * group["initial_lr"] / 1e-3)
            for optimizer in optimizers
            for group in optimizer.param_groups
        )
        found.append(metrics["lr/base"])
        optimizers.step()
        schedule.step()
    return found


@pytest.mark.filterwarnings("ignore:To get the last learning rate computed")
def test_the_rate_warms_up_changes_and_decays(tmp_path: Path) -> None:
    changes = "lr_change_steps = [8, 12]\nlr_change_factors = [0.5, 0.25]\n"
    run = run_of(tmp_path, changes + 'decay_ratio = 0.2\nmin_lr_factor = 0.1\noptimizer = "muon"', width=64)
    found = rates(run, 20)
    assert found[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert found[4:8] == pytest.approx([1e-3] * 4)
    assert found[8:12] == pytest.approx([0.5e-3] * 4)
    assert found[12:16] == pytest.approx([0.25e-3] * 4)
    assert found[-1] == pytest.approx(0.25e-3 * (0.1 + 0.9 * 0.25))
    assert found[16:] == sorted(found[16:], reverse=True)
    assert rates(run, 20, resumed_at=10) == found


def test_the_default_schedule_is_warm_up_and_constant(tmp_path: Path) -> None:
    assert rates(run_of(tmp_path, width=64), 20)[3:] == [1e-3] * 17


@pytest.mark.parametrize(("kind", "half"), [("linear", 0.5), ("sqrt", 1 - 0.5**0.5), ("cosine", 0.5)])
def test_kinds_of_decay(kind: str, half: float, tmp_path: Path) -> None:
    run = run_of(tmp_path, f'decay_ratio = 0.8\ndecay_type = "{kind}"', width=64)
    assert rates(run, 20)[12] == pytest.approx(1e-3 * half)

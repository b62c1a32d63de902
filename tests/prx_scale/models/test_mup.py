"""muP: every parameter has its place, base sizes change nothing, and other sizes follow the rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prx_scale import study
from prx_scale.config import RunConfig
from prx_scale.models.mmdit import MMDiT, backbone_config
from prx_scale.models.mup import PARTS, Parametrisation, Role, part_of

STUDY = """
[study]
name = "s"
[model]
depth = 2
patch = 4
{model}
[data]
encoders = 2
[training]
steps = 100
"""


def run_of(tmp_path: Path, model: str = "") -> RunConfig:
    (tmp_path / "s.toml").write_text(STUDY.format(model=model))
    return study.load(tmp_path / "s.toml").runs[0]


def build(run: RunConfig) -> MMDiT:
    with torch.device("meta"):
        model = backbone_config(run).build()
    model.to_empty(device="cpu")
    with torch.no_grad():
        model.init_weights()
    return model


@pytest.mark.parametrize(
    "model", ["", "weight_sets = 3", 'positions = "learned"', "qk_norm = false", "size_conditioning = true"]
)
def test_every_parameter_has_exactly_one_part(model: str, tmp_path: Path) -> None:
    names = [name for name, _ in build(run_of(tmp_path, model)).named_parameters()]
    roles = {name: part_of(name).role for name in names}
    assert {name for name, role in roles.items() if role is Role.OUTPUT} == {"final.linear.weight"}
    assert all((role is Role.VECTOR) == ("bias" in name or "_norm" in name) for name, role in roles.items())
    wrapped = "layers.0._checkpoint_wrapped_module.image.q.weight"
    assert part_of(wrapped) == part_of("layers.0.image.q.weight")


def test_a_parameter_without_a_part_is_refused() -> None:
    with pytest.raises(ValueError, match="register_tokens: belongs to 0 parts"):
        part_of("register_tokens")


def test_hidden_matrices_are_those_whose_two_sides_grow(tmp_path: Path) -> None:
    shapes = [
        {name: tuple(value.shape) for name, value in build(run_of(tmp_path, model)).named_parameters()}
        for model in ("width = 64\nsize_conditioning = true", "width = 128\nsize_conditioning = true")
    ]
    for name, narrow in shapes[0].items():
        grown = [wide > small for wide, small in zip(shapes[1][name], narrow, strict=True)]
        if part_of(name).role is Role.HIDDEN:
            assert grown == [True, True], name
        elif part_of(name).role is Role.INPUT:
            assert grown == [True, False], name
        elif part_of(name).role is Role.OUTPUT:
            assert grown == [False, True], name


def test_base_size_is_the_standard_parametrisation_bit_for_bit(tmp_path: Path) -> None:
    plain = build(run_of(tmp_path, "width = 128"))
    based = build(run_of(tmp_path, "width = 128\nmup_base_width = 128\nmup_base_depth = 2"))
    for (name, a), (_, b) in zip(plain.named_parameters(), based.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    config = backbone_config(run_of(tmp_path, "width = 128\nmup_base_width = 128\nmup_base_depth = 2"))
    assert replace(config, parametrisation=plain.config.parametrisation) == plain.config


def test_initial_deviations_follow_the_width(tmp_path: Path) -> None:
    def deviations(width: int, base: int) -> dict[str, float]:
        model = build(run_of(tmp_path, f"width = {width}\nmup_base_width = {base}"))
        return {name: float(value.detach().std()) for name, value in model.named_parameters() if value.ndim == 2}

    base, wide, standard = deviations(64, 64), deviations(256, 64), deviations(256, 0)
    for name, ratio in {
        "patch_embed.weight": 1,
        "context_embed.weight": 1,
        "time_embed.first.weight": 1,
        "time_embed.second.weight": 0.5,
        "pooled_embed.second.weight": 0.5,
        "layers.0.image.q.weight": 0.5,
        "layers.0.text.mlp_out.weight": 0.5,
    }.items():
        assert wide[name] / base[name] == pytest.approx(ratio, rel=0.05), name
    # The usual initial values differ: Xavier's embedders shrink, and the embedders' normal ones do not.
    assert standard["patch_embed.weight"] / base["patch_embed.weight"] < 0.7
    assert standard["time_embed.second.weight"] / base["time_embed.second.weight"] == pytest.approx(1, rel=0.05)
    assert wide["layers.0.image.ada.weight"] == wide["final.linear.weight"] == 0


def test_output_and_residual_multipliers_are_in_the_forward(tmp_path: Path) -> None:
    config = backbone_config(run_of(tmp_path, "width = 256\nmup_base_width = 64"))
    assert (config.final.input_multiplier, config.blocks[0].image.residual_multiplier) == (0.25, 1)
    usual = build(run_of(tmp_path, "width = 64"))
    deep = build(run_of(tmp_path, "width = 64\nmup_base_depth = 1"))
    generator = torch.Generator().manual_seed(0)
    x, attended, gates = (torch.randn(shape, generator=generator) for shape in ((2, 5, 64), (2, 5, 64), (6, 2, 64)))
    zero = torch.zeros(2, 64)
    for modulation in ((zero, zero, gates[2], *[zero] * 3), (*[zero] * 3, *gates[3:])):
        added, less = (model.layers["0"].image.advance(x, attended, modulation) - x for model in (usual, deep))
        assert added.abs().max() > 0.1
        assert torch.allclose(less, added * 2**-0.5, atol=1e-5)
    with torch.no_grad():
        usual.final.linear.weight.normal_(generator=generator)
        whole = usual.final(x, zero)
        usual.final.input_multiplier = 0.25
        assert torch.allclose(usual.final(x, zero), whole * 0.25, atol=1e-6)


def test_folded_weights_compute_the_same_without_multipliers(tmp_path: Path) -> None:
    scaled = build(run_of(tmp_path, "width = 128\nmup_base_width = 64\nmup_base_depth = 1"))
    plain = build(run_of(tmp_path, "width = 128"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for (name, value), target in zip(scaled.named_parameters(), plain.parameters(), strict=True):
            value.normal_(std=0.05, generator=generator)
            target.copy_(value * scaled.config.parametrisation.folded(name))
    tokens = sum(scaled.config.text_split)
    shapes = {"context": (2, tokens, scaled.config.shape.context_dim), "pooled": (2, scaled.config.shape.pooled_dim)}
    rest = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    z, t = torch.randn(2, 3, 16, 16, generator=generator), torch.tensor([0.2, 0.7])
    one, other = scaled(z, t=t, **rest), plain(z, t=t, **rest)
    assert one.abs().max() > 0.1
    assert torch.allclose(one, other, atol=1e-5)


def test_multipliers() -> None:
    scaled = Parametrisation(width=256, depth=8, base_width=64, base_depth=2)
    by_role = {(part.role, part.in_block): scaled.adam(part) for part in PARTS}
    assert by_role[Role.HIDDEN, True].lr == 0.25 * 0.5
    assert by_role[Role.HIDDEN, False].lr == 0.25
    assert by_role[Role.VECTOR, True].lr == 0.5
    assert by_role[Role.VECTOR, False].lr == by_role[Role.INPUT, False].lr == by_role[Role.OUTPUT, False].lr == 1
    assert by_role[Role.HIDDEN, True].eps == 0.125 and by_role[Role.INPUT, False].eps == 0.25
    assert all(each.weight_decay * each.lr == 1 for each in by_role.values())
    assert scaled.muon(rms_matched=False).lr == 0.5
    assert scaled.muon(rms_matched=True).lr == 0.25
    off = Parametrisation(width=256, depth=8)
    assert all(off.adam(part) == Parametrisation(width=64, depth=1, base_width=64).adam(part) for part in PARTS)
    assert off.output_multiplier == off.residual_multiplier == off.adam(PARTS[0]).lr == 1


def test_attention_scale_is_one_over_d_and_usual_at_the_base_head() -> None:
    on, off = Parametrisation(width=64, depth=1, base_width=64), Parametrisation(width=64, depth=1)
    assert on.attention_scale(64) == off.attention_scale(64) == 0.125
    assert on.attention_scale(128) == 0.0625
    assert off.attention_scale(128) == 128**-0.5

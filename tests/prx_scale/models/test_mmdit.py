"""The backbone: zero at first, deaf to nothing it should hear, the same function as the published implementation."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from prx_scale.models import sizes
from prx_scale.models.embeddings import PositionGrid, centre_crop, sincos_positions, time_frequencies
from prx_scale.models.initial import initial_value
from prx_scale.models.mmdit import MMDiT, mmdit_config
from tests.prx_scale.models.small_models import build, small_shape


def randomised(depth: int, patch: int = 4, qk_norm: bool = True) -> MMDiT:
    model = build(small_shape(depth, patch, qk_norm=qk_norm), patch)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    return model.eval()


def inputs(batch: int = 2) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(batch, 3, 16, 16, generator=generator)
    rest = {
        "t": torch.rand(batch, generator=generator),
        "context": torch.randn(batch, 7, 24, generator=generator),
        "pooled": torch.randn(batch, 40, generator=generator),
    }
    return z, rest


def test_output_is_zero_at_initialisation() -> None:
    z, rest = inputs()
    assert build(small_shape(2, 4), 4)(z, **rest).abs().max() == 0


@torch.no_grad()
@pytest.mark.parametrize("name", ["t", "context", "pooled"])
def test_every_condition_is_heard(name: str) -> None:
    model = randomised(1)
    z, rest = inputs()
    before = model(z, **rest)
    rest[name] = rest[name] + 0.1
    assert (model(z, **rest) - before).abs().max() > 1e-5


@torch.no_grad()
def test_images_of_a_batch_do_not_mix() -> None:
    model = randomised(2)
    z, rest = inputs(3)
    alone = model(z[1:2], **{name: value[1:2] for name, value in rest.items()})
    torch.testing.assert_close(model(z, **rest)[1:2], alone, atol=1e-5, rtol=1e-4)


def test_patches_go_in_channel_first_and_come_out_channel_last() -> None:
    model = build(small_shape(1, 4), 4)
    image = torch.arange(3 * 16 * 16, dtype=torch.float32).reshape(1, 3, 16, 16)
    patches = model.patchify(image)
    expected = image[0, :, 0:4, 4:8].flatten()
    assert torch.equal(patches[0, 1], expected)
    channel_last = patches.unflatten(2, (3, 4, 4)).permute(0, 1, 3, 4, 2).flatten(2)
    assert torch.equal(model.unpatchify(channel_last, 4, 4), image)


def test_initial_weights_depend_on_seed_and_name_alone() -> None:
    shape = torch.Size((8, 8))
    name = "layers.0.image.q.weight"
    assert torch.equal(initial_value(name, shape, 0), initial_value(name, shape, 0))
    assert not torch.equal(initial_value(name, shape, 0), initial_value(name, shape, 1))
    assert not torch.equal(initial_value(name, shape, 0), initial_value("layers.1.image.q.weight", shape, 0))
    assert initial_value("layers.0.image.ada.weight", shape, 0).abs().max() == 0
    assert torch.equal(initial_value("layers.0.text.k_norm.weight", torch.Size((4,)), 0), torch.ones(4))


def test_time_frequencies_are_cos_then_sin_of_1000_t() -> None:
    e = time_frequencies(torch.tensor([0.0, 0.25]), 256)
    assert torch.equal(e[0], torch.cat([torch.ones(128), torch.zeros(128)]))
    assert e[1, 0].item() == pytest.approx(torch.tensor(250.0).cos().item(), abs=1e-5)
    assert e[1, 128 + 64].item() == pytest.approx(torch.tensor(250.0 * 10000 ** (-0.5)).sin().item(), abs=1e-5)


def test_grid_positions_encode_column_then_row() -> None:
    positions = sincos_positions(torch.arange(3.0).double(), torch.arange(5.0).double(), 64)
    assert torch.equal(positions[0, 2, :32], positions[2, 2, :32])
    assert torch.equal(positions[1, 0, 32:], positions[1, 4, 32:])
    assert positions[0, 2, 0].item() == pytest.approx(torch.tensor(2.0).sin().item())
    assert positions[2, 0, 32 + 16].item() == pytest.approx(torch.tensor(2.0).cos().item())


def diffusers_names(depth: int, qk_norm: bool) -> dict[str, str]:
    """Our parameter to the one of diffusers' SD3Transformer2DModel, without the trailing .weight or .bias."""
    names = {
        "patch_embed": "pos_embed.proj",
        "context_embed": "context_embedder",
        "time_embed.first": "time_text_embed.timestep_embedder.linear_1",
        "time_embed.second": "time_text_embed.timestep_embedder.linear_2",
        "pooled_embed.first": "time_text_embed.text_embedder.linear_1",
        "pooled_embed.second": "time_text_embed.text_embedder.linear_2",
        "final.ada": "norm_out.linear",
        "final.linear": "proj_out",
    }
    image = {"ada": "norm1.linear", "q": "attn.to_q", "k": "attn.to_k", "v": "attn.to_v", "out": "attn.to_out.0"}
    image |= {"mlp_in": "ff.net.0.proj", "mlp_out": "ff.net.2"}
    text = {"ada": "norm1_context.linear", "q": "attn.add_q_proj", "k": "attn.add_k_proj", "v": "attn.add_v_proj"}
    text |= {"out": "attn.to_add_out", "mlp_in": "ff_context.net.0.proj", "mlp_out": "ff_context.net.2"}
    if qk_norm:
        image |= {"q_norm": "attn.norm_q", "k_norm": "attn.norm_k"}
        text |= {"q_norm": "attn.norm_added_q", "k_norm": "attn.norm_added_k"}
    for i in range(depth):
        names |= {f"layers.{i}.image.{ours}": f"transformer_blocks.{i}.{theirs}" for ours, theirs in image.items()}
        names |= {f"layers.{i}.text.{ours}": f"transformer_blocks.{i}.{theirs}" for ours, theirs in text.items()}
    return names


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_same_function_as_diffusers(depth: int, qk_norm: bool) -> None:
    diffusers = pytest.importorskip("diffusers")
    model = randomised(depth, patch=2, qk_norm=qk_norm)
    theirs = diffusers.SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=3,
        out_channels=3,
        num_layers=depth,
        attention_head_dim=64,
        num_attention_heads=depth,
        joint_attention_dim=24,
        caption_projection_dim=64 * depth,
        pooled_projection_dim=40,
        pos_embed_max_size=8,
        qk_norm="rms_norm" if qk_norm else None,
    ).eval()
    state = theirs.state_dict()
    state["pos_embed.pos_embed"] = model.positions.flatten(0, 1)[None]
    for ours, name in diffusers_names(depth, qk_norm).items():
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" not in dict(model.named_parameters()):
                continue
            value = model.get_parameter(f"{ours}.{kind}").detach()
            if name == "norm_out.linear" or (name == f"transformer_blocks.{depth - 1}.norm1_context.linear"):
                # diffusers orders the two chunks (scale, shift).
                value = torch.cat(value.chunk(2)[::-1])
            state[f"{name}.{kind}"] = value.reshape(state[f"{name}.{kind}"].shape)
    theirs.load_state_dict(state)
    z, rest = inputs()
    expected = theirs(z, rest["context"], rest["pooled"], timestep=1000 * rest["t"]).sample
    ours = model(z, **rest)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def three_sets(depth: int = 2) -> MMDiT:
    shape = dataclasses.replace(small_shape(depth, 4), weight_sets=3)
    config = mmdit_config(shape, channels=3, patch=4, grid=PositionGrid(side=4, image=4, base=4), text_split=(3, 4))
    model = config.build()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    model.positions = config.grid.table(shape.hidden)
    return model.eval()


@torch.no_grad()
def test_three_sets_with_equal_text_weights_are_two() -> None:
    """Text tokens do not care which of two equal weight sets they go through."""
    three, two = three_sets(), randomised(2)
    state = {name: value for name, value in three.state_dict().items() if ".text2." not in name}
    two.load_state_dict(state)
    for block in three.layers.values():
        block.text2.load_state_dict(block.text.state_dict())
    z, rest = inputs()
    torch.testing.assert_close(three(z, **rest), two(z, **rest), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_third_set_serves_its_own_tokens() -> None:
    model = three_sets()
    z, rest = inputs()
    before = model(z, **rest)
    for parameter in model.layers["0"].text2.parameters():
        parameter.add_(0.1)
    assert (model(z, **rest) - before).abs().max() > 1e-4
    empty = {**rest, "context": rest["context"].clone()}
    with pytest.raises(RuntimeError):
        model(z, **{**empty, "context": empty["context"][:, :6]})


def test_grid_of_positions_as_published() -> None:
    """Esser et al. 2024: base 256 pixels; 512 with sides up to 48 patches, 1024 with sides up to 192."""
    for side, image, first, last, step in ((16, 16, 0, 15, 1), (48, 32, -4, 19.5, 0.5), (192, 64, -16, 31.75, 0.25)):
        places = PositionGrid(side=side, image=image, base=16).coordinates()
        assert (places[0].item(), places[-1].item(), (places[1] - places[0]).item()) == (first, last, step)
    square = PositionGrid(side=192, image=64, base=16)
    crop = centre_crop(square.coordinates()[:, None, None].expand(-1, 192, 1), 64, 64)
    assert (crop.min().item(), crop.max().item()) == (0, 15.75)


@torch.no_grad()
@pytest.mark.parametrize("positions", ["sin-cos", "learned"])
def test_any_aspect_ratio_is_a_crop_of_the_table(positions: str) -> None:
    shape = dataclasses.replace(small_shape(1, 4), learned_positions=64 if positions == "learned" else 0)
    model = mmdit_config(shape, channels=3, patch=4, grid=PositionGrid(side=8, image=4, base=4)).build()
    model.init_weights()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if name != "position_table.weight":
            torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    _, rest = inputs()
    assert model(torch.randn(2, 3, 8, 28), **rest).shape == (2, 3, 8, 28)
    table = PositionGrid(side=8, image=4, base=4).table(64)
    assert torch.equal(model.positions_of(2, 7), table[3:5, 0:7].flatten(0, 1))
    with pytest.raises(ValueError, match=r"9 x 2 patches does not fit the table of 8 x 8"):
        model(torch.randn(2, 3, 36, 8), **rest)


def test_counts_with_three_sets_and_learned_positions() -> None:
    shape = dataclasses.replace(small_shape(3, 4), weight_sets=3, learned_positions=16)
    config = mmdit_config(shape, channels=3, patch=4, grid=PositionGrid(side=4, image=4, base=4), text_split=(3, 4))
    model = config.build()
    counts = sizes.parameters(shape)
    assert sum(p.numel() for p in model.parameters()) == counts.backbone + counts.embedding
    h = shape.hidden
    blocks = sum(p.numel() for p in model.layers.parameters()) - 3 * 6 * 64
    assert blocks == 2 * (54 * h**2 + 45 * h) + 28 * h**2 + 25 * h
    model.init_weights()
    z, rest = inputs(1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(z, **rest)
    assert counter.get_total_flops() == sizes.forward_flops(shape)

"""The backbone: zero at first, and deaf to nothing it should hear."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prx_scale.models.embeddings import sincos_positions, time_frequencies
from prx_scale.models.initial import initial_value
from prx_scale.models.mmdit import MMDiT
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

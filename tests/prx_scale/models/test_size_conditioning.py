"""A model that is told sizes and crop: SDXL's sinusoids, silent at first, and one size at a time in diffusers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prx_scale.data.framing import uncropped
from prx_scale.errors import InputError
from prx_scale.models.convert.exporting import at_size, in_layout, transformer_config
from prx_scale.models.convert.folder import load_into
from prx_scale.models.convert.layouts import DIFFUSERS, LAYOUTS, Layout
from prx_scale.models.embeddings import PositionGrid, size_frequencies
from prx_scale.models.initial import initial_value
from prx_scale.models.mmdit import MMDiT, mmdit_config
from prx_scale.models.names import WeightSizes
from prx_scale.models.sizes import Shape
from prx_scale.startweights import read_info
from tests.prx_scale.models import convert_models as cm

GRID = PositionGrid(side=12, image=8, base=4)
TOLD, DEAF = cm.sizes(2, size_conditioning=True), cm.sizes(2)
SIZES = torch.tensor([[1000, 1500, 10, 0, 192, 320], [4999, 768, 0, 37, 1024, 1024]], dtype=torch.float32)


def build(of: WeightSizes, downsampling: int = 8) -> MMDiT:
    """A model of random weights that is fed latents."""
    model = cm.build(of, GRID)
    model.config.downsampling = downsampling
    return model


def initial(of: WeightSizes) -> MMDiT:
    """A model with its initial embedder of sizes, and weights that say something elsewhere."""
    model = build(of)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(len(name))
            parameter.normal_(std=0.05, generator=generator)
            if name.startswith("size_embed"):
                parameter.copy_(initial_value(name, parameter.shape, 0))
    return model


def test_sinusoids_are_those_of_sdxl() -> None:
    from diffusers.models.embeddings import get_timestep_embedding

    theirs = get_timestep_embedding(SIZES.flatten(), 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(size_frequencies(SIZES, 256), theirs.reshape(2, 6 * 256), atol=2e-4, rtol=0)
    two = size_frequencies(torch.tensor([[0.0, 3.0]]), 256)[0]
    assert torch.equal(two[:256], torch.cat([torch.ones(128), torch.zeros(128)]))
    assert two[256].item() == pytest.approx(math.cos(3))
    assert two[256 + 128 + 64].item() == pytest.approx(math.sin(3 * 10_000**-0.5))


@torch.no_grad()
def test_a_new_embedder_says_nothing_and_learns_at_once() -> None:
    told, deaf = initial(TOLD), initial(DEAF)
    z, rest = cm.inputs(TOLD)
    assert torch.equal(told(z, size=SIZES, **rest), deaf(z, **rest))
    assert torch.equal(told(z, **rest), deaf(z, **rest))
    with torch.enable_grad():
        told(z, size=SIZES, **rest).square().mean().backward()
    gradients = {name: value.grad for name, value in told.named_parameters() if name.startswith("size_embed")}
    assert gradients["size_embed.second.weight"].abs().max() > 1e-6  # type: ignore[union-attr]
    assert gradients["size_embed.first.weight"].abs().max() == 0  # type: ignore[union-attr]


def test_all_other_weights_start_as_without_it() -> None:
    def built(told: bool) -> dict[str, Tensor]:
        shape = Shape(
            depth=1,
            hidden=64,
            head_dim=64,
            patch_dim=16,
            context_dim=24,
            pooled_dim=40,
            image_tokens=16,
            text_tokens=7,
            qk_norm=True,
            size_conditioning=told,
        )
        model = mmdit_config(shape, channels=4, patch=2, grid=GRID).build()
        with torch.no_grad():
            model.init_weights()
        return dict(model.named_parameters())

    told, deaf = built(True), built(False)
    assert all(torch.equal(told.pop(name), value) for name, value in deaf.items())
    assert len(told) == 4 and all(name.startswith("size_embed.") for name in told)
    assert {name for name, value in told.items() if value.any()} == {"size_embed.first.weight"}
    assert told["size_embed.first.weight"].std().item() == pytest.approx(0.02, rel=0.02)


@torch.no_grad()
@pytest.mark.parametrize("number", range(6))
def test_each_number_is_heard(number: int) -> None:
    model = build(TOLD)
    z, rest = cm.inputs(TOLD)
    other = SIZES.clone()
    other[0, number] += 1
    change = (model(z, size=other, **rest) - model(z, size=SIZES, **rest)).abs().amax((1, 2, 3))
    assert change[0] > 1e-5 and change[1] == 0


@torch.no_grad()
@pytest.mark.parametrize("side", [(16, 16), (24, 8)])
def test_by_default_images_are_whole_and_of_their_own_size(side: tuple[int, int]) -> None:
    model = build(TOLD)
    z, rest = cm.inputs(TOLD, *side)
    size = torch.tensor(uncropped((8 * side[0], 8 * side[1])), dtype=torch.int32).expand(2, -1)
    assert torch.equal(model(z, **rest), model(z, size=size, **rest))
    assert not torch.allclose(model(z, **rest), model(z, size=size // 8, **rest), atol=1e-4)


@torch.no_grad()
def test_weights_without_it_are_started_from_as_the_same_function(tmp_path: Path) -> None:
    from prx_scale.models.convert.exporting import write_own

    deaf = build(DEAF)
    write_own(tmp_path, cm.exported(deaf, DEAF), {})
    told = initial(TOLD)
    load_into(told, tmp_path, read_info(tmp_path).hash)
    z, rest = cm.inputs(TOLD)
    assert torch.equal(told(z, size=SIZES, **rest), deaf(z, **rest))


@torch.no_grad()
def test_of_one_size_it_is_a_model_of_diffusers() -> None:
    model = build(TOLD)
    folded = at_size(cm.exported(model, TOLD), 192)
    assert transformer_config(folded)["sample_size"] == 24
    shapes, read = in_layout(folded, DIFFUSERS)
    theirs = cm.diffusers_model({name: read(name) for name in shapes}, DEAF, GRID.side)
    z, rest = cm.inputs(TOLD, 24, 24)
    expected = cm.run_diffusers(theirs, z, rest)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(model(z, **rest), expected, atol=1e-5, rtol=1e-5)
    told_another = model(z, size=torch.tensor([uncropped((128, 128))] * 2), **rest)
    assert not torch.allclose(told_another, expected, atol=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_published_layouts_have_no_room_for_it(layout: Layout) -> None:
    with pytest.raises(InputError, match=rf"size_conditioning: the {layout.name} layout .* --image-size N"):
        in_layout(cm.exported(build(TOLD), TOLD), layout)


@pytest.mark.parametrize("pixels", [0, 8, 200, 208])
def test_sizes_that_the_model_cannot_have_are_not_folded(pixels: int) -> None:
    with pytest.raises(InputError, match=rf"--image-size {pixels}: .* multiples of 16 up to 192"):
        at_size(cm.exported(build(TOLD), TOLD), pixels)
    with pytest.raises(InputError, match="has no \\[model\\] size_conditioning"):
        at_size(cm.exported(build(DEAF), replace(TOLD, size_conditioning=False)), 128)

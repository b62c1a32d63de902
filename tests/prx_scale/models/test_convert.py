"""The same function as the published model: our weights in diffusers' and Stability's layouts and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from prx_scale.errors import InputError
from prx_scale.models.convert.adapter import DiffusersAdapter, StabilityAdapter, sizes_of_config
from prx_scale.models.convert.exporting import in_layout, write_stability, write_transformer
from prx_scale.models.convert.folder import load_into
from prx_scale.models.convert.importing import import_weights
from prx_scale.models.convert.layouts import DIFFUSERS, LAYOUTS, STABILITY, STABILITY_PREFIX, entries
from prx_scale.models.convert.tensors import from_theirs, to_theirs
from prx_scale.models.embeddings import PositionGrid
from prx_scale.models.mmdit import MMDiT
from prx_scale.models.names import POSITIONS, WeightSizes, parameter_shapes
from prx_scale.startweights import read_info
from tests.prx_scale.models import convert_models as cm

SQUARE = PositionGrid(side=8, image=8, base=8)
WIDE = PositionGrid(side=12, image=8, base=4)
TOLD = cm.sizes(1, size_conditioning=True)


def imported_model(path, tmp_path) -> MMDiT:
    """A model of ours with weights that went through import-weights."""
    folder = tmp_path / "imported"
    import_weights(path, folder)
    info = read_info(folder)
    p = info.positions
    grid = PositionGrid(side=p.grid, image=p.image or p.grid, base=p.base or p.grid)
    model = cm.build(info.sizes, grid, seed=99)
    load_into(model, folder, info.hash)
    return model


def test_names_and_shapes_are_those_of_the_built_model() -> None:
    for of in (cm.sizes(1), cm.sizes(3, qk_norm=False), cm.sizes(2, weight_sets=3), TOLD, cm.sizes(2, learned_side=8)):
        model = cm.build(of, SQUARE)
        assert parameter_shapes(of) == {name: tuple(p.shape) for name, p in model.named_parameters()}
        assert sizes_of_config(model.config) == of


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (24, 8), (10, 22)])
def test_export_is_the_same_function_in_diffusers(depth: int, qk_norm: bool, size: tuple[int, int]) -> None:
    of = cm.sizes(depth, hidden=128, qk_norm=qk_norm)
    model = cm.build(of, WIDE)
    shapes, read = in_layout(cm.exported(model, of), DIFFUSERS)
    theirs = cm.diffusers_model({name: read(name) for name in shapes}, of, WIDE.side)
    z, rest = cm.inputs(of, *size)
    expected = cm.run_diffusers(theirs, z, rest)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(model(z, **rest), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("layout", ["diffusers", "stability"])
def test_import_is_the_same_function_as_in_diffusers(depth: int, qk_norm: bool, layout: str, tmp_path) -> None:
    of = cm.sizes(depth, qk_norm=qk_norm)
    # diffusers' own fresh positions, which ours cannot be set to at every size
    table = PositionGrid(side=12, image=12, base=8).table(of.hidden)
    state = cm.random_theirs(layout, of, table)
    file = cm.save(state, tmp_path / "model.safetensors", prefix=STABILITY_PREFIX if layout == "stability" else "")
    model = imported_model(file, tmp_path)
    if layout == "stability":
        state = their_own_conversion(state)
    theirs = cm.diffusers_model(state, of, 12)
    z, rest = cm.inputs(of, 18, 10)
    expected = cm.run_diffusers(theirs, z, rest)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(model(z, **rest), expected, atol=1e-5, rtol=1e-5)


def their_own_conversion(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stability's layout in diffusers', by diffusers."""
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    return convert_sd3_transformer_checkpoint_to_diffusers(dict(state))


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("prefix", ["", STABILITY_PREFIX])
def test_stability_export_converted_by_diffusers_is_our_diffusers_export(
    depth: int, qk_norm: bool, prefix: str
) -> None:
    of = cm.sizes(depth, qk_norm=qk_norm)
    model = cm.exported(cm.build(of, SQUARE), of)
    shapes, read = in_layout(model, STABILITY, prefix)
    independent = their_own_conversion({name: read(name) for name in shapes})
    shapes, read = in_layout(model, DIFFUSERS)
    assert independent.keys() == shapes.keys()
    for name, value in independent.items():
        assert torch.equal(value, read(name)), name


@st.composite
def any_sizes(draw: st.DrawFn) -> WeightSizes:
    depth, heads = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    return WeightSizes(
        depth=depth,
        hidden=64 * heads,
        patch=draw(st.integers(1, 4)),
        channels=draw(st.integers(1, 16)),
        context_dim=draw(st.integers(1, 40)),
        pooled_dim=draw(st.integers(1, 40)),
        qk_norm=draw(st.booleans()),
        learned_side=draw(st.integers(1, 9)),
    )


@settings(max_examples=20)
@given(of=any_sizes(), layout=st.sampled_from(LAYOUTS), seed=st.integers(0, 2**31))
def test_ours_to_theirs_to_ours_is_the_identity(of: WeightSizes, layout, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = parameter_shapes(of)
    ours = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    back: dict[str, torch.Tensor] = {}
    for entry in entries(layout, of, of.learned_side):
        value = to_theirs(entry, ours.__getitem__)
        assert tuple(value.shape) == entry.shape
        back |= from_theirs(entry, value, shapes)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


@torch.no_grad()
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("multipliers", [{"scale": 1 / 20}, {"mup": True}, {"scale": 1 / 20, "mup": True}])
def test_multipliers_of_the_forward_pass_go_into_the_weights(qk_norm: bool, multipliers: dict[str, Any]) -> None:
    of = cm.sizes(2, qk_norm=qk_norm)
    model = cm.build(of, SQUARE, **multipliers)
    plain = cm.build(of, SQUARE)
    shapes, read = in_layout(cm.exported(model, of), DIFFUSERS)
    theirs = cm.diffusers_model({name: read(name) for name in shapes}, of, SQUARE.side)
    z, rest = cm.inputs(of)
    expected = cm.run_diffusers(theirs, z, rest)
    torch.testing.assert_close(model(z, **rest), expected, atol=1e-5, rtol=1e-5)
    assert (plain(z, **rest) - expected).abs().max() > 1e-3
    for adapter in (DiffusersAdapter(model.config, None), StabilityAdapter(model.config, None)):
        published = adapter.to_hf(dict(model.named_parameters()))
        back = adapter.from_hf(published)
        for name, value in model.named_parameters():
            torch.testing.assert_close(back[name], value)
    assert published.keys() == in_layout(cm.exported(model, of), STABILITY)[0].keys()


def test_three_weight_sets_are_refused_by_name() -> None:
    of = cm.sizes(2, weight_sets=3)
    for layout in LAYOUTS:
        with pytest.raises(InputError, match=r"weight_sets: the .* layout holds 2 weight sets, not 3"):
            in_layout(cm.exported(cm.build(of, SQUARE), of), layout)


@torch.no_grad()
@pytest.mark.parametrize("learned", [False, True])
def test_torchtitan_reads_and_writes_diffusers_files_through_the_adapter(learned: bool, tmp_path) -> None:
    import torch.distributed.checkpoint as dcp
    from diffusers import SD3Transformer2DModel
    from torch.distributed.checkpoint import HuggingFaceStorageWriter

    of = cm.sizes(2, learned_side=SQUARE.side if learned else 0)
    model, other = cm.build(of, SQUARE), cm.build(of, SQUARE, seed=5)
    adapter = DiffusersAdapter(model.config, None)
    folder = tmp_path / "hf"
    state = adapter.to_hf({name: value.detach() for name, value in model.named_parameters()})
    dcp.save(state, storage_writer=HuggingFaceStorageWriter(path=str(folder)), no_dist=True)
    (written,) = folder.glob("*.safetensors")
    theirs = cm.diffusers_model(load_file(written), of, SQUARE.side)
    assert isinstance(theirs, SD3Transformer2DModel)
    z, rest = cm.inputs(of)
    torch.testing.assert_close(model(z, **rest), cm.run_diffusers(theirs, z, rest), atol=1e-5, rtol=1e-5)
    target = adapter.to_hf({name: value.detach().clone() for name, value in other.named_parameters()})
    dcp.load(target, storage_reader=adapter.get_hf_storage_reader(str(folder)), no_dist=True)
    back = adapter.from_hf(target)
    assert back.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(back[name], value) for name, value in model.named_parameters())


def test_the_adapter_refuses_other_positions_than_the_models_fixed_ones() -> None:
    of = cm.sizes(1)
    adapter = DiffusersAdapter(cm.build(of, SQUARE).config, None)
    state = cm.random_theirs("diffusers", of, PositionGrid(side=8, image=8, base=4).table(of.hidden))
    with pytest.raises(ValueError, match=r"pos_embed\.pos_embed: not the positions"):
        adapter.from_hf(state)


def test_a_run_has_the_adapter_in_its_model_spec() -> None:
    from prx_scale.config import RunConfig
    from prx_scale.runtables import Model, Training
    from prx_scale.training.titan_config import model_spec

    spec = model_spec(RunConfig(study="s", model=Model(depth=1), training=Training(steps=1)))
    assert spec.state_dict_adapter is DiffusersAdapter
    assert spec.state_dict_adapter(spec.model, None).sizes.depth == 1


@pytest.mark.parametrize("qk_norm", [False, True])
def test_files_come_back_bit_for_bit(qk_norm: bool, tmp_path) -> None:
    of = cm.sizes(2, qk_norm=qk_norm, learned_side=SQUARE.side)
    model = cm.build(of, SQUARE)
    (tmp_path / "transformer").mkdir()
    write_transformer(tmp_path / "transformer", cm.exported(model, of), limit=300_000)
    assert len(list((tmp_path / "transformer").glob("*-of-*.safetensors"))) > 1
    write_stability(tmp_path / "model.safetensors", cm.exported(model, of))
    hashes = set()
    for number, path in enumerate((tmp_path / "transformer", tmp_path / "model.safetensors")):
        done = import_weights(path, tmp_path / f"out{number}", limit=10**9 if number else 200_000)
        hashes.add(done.info.hash)
        back = cm.build(of, SQUARE, seed=50 + number)
        load_into(back, tmp_path / f"out{number}", done.info.hash)
        assert all(torch.equal(back.get_parameter(name), value) for name, value in model.named_parameters())
    assert len(hashes) == 1
    assert len(list((tmp_path / "out0").glob("*-of-*.safetensors"))) > 1


def test_shards_load_in_diffusers(tmp_path) -> None:
    from diffusers import SD3Transformer2DModel

    of = cm.sizes(1)
    model = cm.build(of, SQUARE)
    write_transformer(tmp_path, cm.exported(model, of), limit=100_000)
    theirs = SD3Transformer2DModel.from_pretrained(tmp_path)
    z, rest = cm.inputs(of)
    torch.testing.assert_close(model(z, **rest), cm.run_diffusers(theirs, z, rest), atol=1e-5, rtol=1e-5)
    assert POSITIONS not in dict(model.named_parameters())

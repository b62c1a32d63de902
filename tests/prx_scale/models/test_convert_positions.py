"""Tables of positions: sinusoids of any even grid are recognised, in every type they are stored in; others are kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prx_scale.models.convert.importing import import_weights
from prx_scale.models.convert.positions import recognise, settings_of
from prx_scale.models.embeddings import PositionGrid, sincos_positions
from tests.prx_scale.models import convert_models as cm


def line(side: int, origin: float, step: float) -> torch.Tensor:
    return origin + step * torch.arange(side, dtype=torch.float64)


@settings(max_examples=20)
@given(
    side=st.integers(2, 20),
    origin=st.floats(-200, 200),
    step=st.floats(0.02, 7),
    width=st.sampled_from([64, 128, 320]),
)
def test_origin_and_step_are_recovered(side: int, origin: float, step: float, width: int) -> None:
    places = line(side, origin, step)
    found = recognise(sincos_positions(places, places, width))
    assert found is not None
    assert (found.origin, found.step) == pytest.approx((origin, step), abs=1e-4)


@settings(max_examples=15)
@given(side=st.integers(1, 16), image=st.integers(1, 16), base=st.integers(1, 64), width=st.sampled_from([64, 128]))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_table_of_ours_is_found_again(dtype: torch.dtype, side: int, image: int, base: int, width: int) -> None:
    side = max(side, image)
    grid = PositionGrid(side=side, image=image, base=base)
    found = settings_of(grid.table(width).to(dtype))
    assert found is not None
    # In 16 bits several settings may give what is the same table.
    off = (found.table(width) - grid.table(width)).abs().max().item()
    assert off <= 2 * torch.finfo(dtype).eps
    if side > 1 and dtype == torch.float32:
        assert (found.side, found.image, found.base) == (side, image, base)


def test_the_published_grids_are_recognised() -> None:
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    fresh = get_2d_sincos_pos_embed(128, 192, base_size=64, output_type="pt").float().reshape(192, 192, 128)
    grid = recognise(fresh)
    assert grid is not None
    assert (grid.origin, grid.step) == pytest.approx((0, 1 / 3), abs=1e-5)
    assert settings_of(fresh) == PositionGrid(side=192, image=192, base=64)
    # Esser et al. 2024 at 1024 pixels: -16 .. 31.75 by 0.25
    places = line(192, -16, 0.25)
    assert settings_of(sincos_positions(places, places, 128).half()) == PositionGrid(side=192, image=64, base=16)


def other_tables() -> dict[str, torch.Tensor]:
    places = line(8, 0, 1)
    uneven = torch.cat([places[:7], places[7:] + 0.5])
    changed = sincos_positions(places, places, 64)
    changed[3, 5, 40] += 1e-3
    return {
        "uneven": sincos_positions(uneven, uneven, 64),
        "other steps down": sincos_positions(2 * places, places, 64),
        "one value changed": changed,
        "noise": torch.randn(8, 8, 64, generator=torch.Generator().manual_seed(0)),
        "zeros": torch.zeros(8, 8, 64),
    }


@pytest.mark.parametrize("kind", other_tables())
def test_other_tables_are_not_taken_for_sinusoids(kind: str) -> None:
    assert recognise(other_tables()[kind]) is None
    assert settings_of(other_tables()[kind]) is None


@torch.no_grad()
@pytest.mark.parametrize("kind", ["uneven", "noise", "no settings"])
def test_a_table_that_no_setting_gives_is_imported_as_it_is(kind: str, tmp_path) -> None:
    from tests.prx_scale.models.test_convert import imported_model

    places = line(8, 0.1, 0.7)
    table = sincos_positions(places, places, 64) if kind == "no settings" else other_tables()[kind]
    of = cm.sizes(1)
    state = cm.random_theirs("diffusers", of, table)
    model = imported_model(cm.save(state, tmp_path / "a.safetensors"), tmp_path)
    assert model.position_table is not None and torch.equal(model.position_table.weight, table)
    z, rest = cm.inputs(of, 12, 6)
    expected = cm.run_diffusers(cm.diffusers_model(state, of, 8), z, rest)
    torch.testing.assert_close(model(z, **rest), expected, atol=1e-5, rtol=1e-5)


def test_an_even_grid_without_settings_is_told(tmp_path) -> None:
    from prx_scale.commands.import_weights import report

    places = line(8, 0.1, 0.7)
    state = cm.random_theirs("diffusers", cm.sizes(1), sincos_positions(places, places, 64))
    file = cm.save(state, tmp_path / "a.safetensors")
    done = import_weights(file, tmp_path / "out")
    (line_,) = [each for each in report(done, file, tmp_path / "out") if each.startswith("  positions")]
    assert "sin-cos, 8 a side, from 0.1 by 0.7; kept as a learned table" in line_

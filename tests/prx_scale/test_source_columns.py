"""Which column is what: guesses, ambiguity, products, units in cells, and hints where a name says its unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prx_scale import sources
from prx_scale.commands.text import parse_quantity
from prx_scale.errors import InputError
from prx_scale.sources.columns import SYNONYMS, size_hint
from prx_scale.sources.values import to_numbers


def write(folder: Path, text: str, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("key", [key for key, names in SYNONYMS.items() if names and key != "loss"])
def test_every_synonym_is_found_in_any_case_but_for_single_letters(key: str, tmp_path: Path) -> None:
    base = {"loss": [3.0, 2.9], "N": [1e6, 2e6]}
    for name in SYNONYMS[key]:
        table = {**({} if key == "params" else base), "loss": [3.0, 2.9], name: [10.0, 20.0]}
        for spelled in {name, name.upper()} if len(name) > 1 else {name}:
            pl.DataFrame({spelled if k == name else k: v for k, v in table.items()}).write_csv(tmp_path / "t.csv")
            assert sources.load([tmp_path / "t.csv"]).provenance.columns[key] == spelled


def test_a_validation_loss_is_preferred_and_the_other_candidate_named(tmp_path: Path) -> None:
    path = write(tmp_path, "params,tokens,loss,val_loss\n1,2,9,3\n2,4,9,2\n")
    loaded = sources.load([path])
    assert loaded.points.loss.tolist() == [3.0, 2.0]
    assert "loss is read from 'val_loss', not from 'loss'" in loaded.notices[0]
    assert sources.load([path], {"loss": "loss"}).notices == ()


def test_products_and_constants(tmp_path: Path) -> None:
    path = write(tmp_path, "step,batch,loss\n100,8,3\n200,8,2\n")
    loaded = sources.load([path], {"params": "1.3B", "samples": "step*batch*2", "flops": "step*1e18"})
    assert loaded.points.params is not None and loaded.points.data is not None and loaded.points.flops is not None
    assert loaded.points.params.tolist() == [1.3e9, 1.3e9]
    assert loaded.points.data.tolist() == [1600.0, 3200.0]
    assert loaded.points.flops.tolist() == [1e20, 2e20]
    assert loaded.provenance.columns["data"] == "step*batch*2"
    assert loaded.provenance.data_unit == "samples"
    assert sources.load([path], {"params": "1.3B", "tokens": "step*2M"}).provenance.data_unit == "tokens"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"params": "1.3B", "tokens": "setp*2M"}, "no column 'setp' .* did you mean 'step'"),
        ({"params": "1.3X"}, "'1.3X' is not a number"),
        ({"params": "1B", "tokens": "step", "data": "step"}, "'data' is chosen twice"),
        ({"params": "1B", "cluster": "step*2"}, "no column '2'"),
        ({"token": "step"}, "'token' is not a column of a fit; did you mean 'tokens'"),
    ],
)
def test_bad_products(columns: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        sources.load([write(tmp_path, "step,loss\n100,3\n200,2\n")], columns)


def test_units_in_cells(tmp_path: Path) -> None:
    path = write(tmp_path, "model_size,tokens,flops,loss\n1.3B, 26 B,5e22,2.5\n40M,1.3e9,5e19,3.5\n 125m ,3T,1e20,3\n")
    points = sources.load([path]).points
    assert points.params is not None and points.data is not None
    assert points.params.tolist() == [1.3e9, 4e7, 1.25e8]
    assert points.data.tolist() == [26e9, 1.3e9, 3e12]
    with pytest.raises(InputError, match="row 2: column 'loss' is '3k', not a number"):
        sources.load([write(tmp_path, "params,loss\n1,3k\n2,1\n")])


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-3, 999.0).map(lambda x: f"{x:.4g}"), st.sampled_from(["", "k", "K", "M", "b", "B", "G", "T"]))
def test_cells_and_options_read_quantities_alike(digits: str, unit: str) -> None:
    read = to_numbers(pl.Series([digits + unit]), units=True)[0]
    assert read == pytest.approx(parse_quantity(digits + unit, "x"), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=6), st.floats().map(str)), min_size=1))
def test_text_is_a_number_or_nan_and_never_fails(cells: list[str | None]) -> None:
    numbers = to_numbers(pl.Series(cells, dtype=pl.String), units=True)
    assert numbers.shape == (len(cells),) and numbers.dtype == np.float64


def test_a_name_with_a_unit_is_not_guessed_but_hinted_at(tmp_path: Path) -> None:
    path = write(tmp_path, "params_m,loss\n40,3\n80,2\n")
    with pytest.raises(InputError, match=r"if 'params_m' counts in units of 1M, write --columns params=params_m\*1M"):
        sources.load([path])
    points = sources.load([path], {"params": "params_m*1M"}).points
    assert points.params is not None and points.params.tolist() == [4e7, 8e7]
    assert (
        size_hint(["tokens (B)"], "data") == "if 'tokens (B)' counts in units of 1B, write --columns data=tokens (B)*1B"
    )
    assert size_hint(["warm", "params", "team"], "params") is None


def test_an_optional_guess_without_numbers_is_let_go_and_an_asked_one_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "params,step,std,loss\n1,0,0.1,3\n2,100,0.2,2\n")
    loaded = sources.load([path])
    assert "steps" not in loaded.provenance.columns and loaded.provenance.columns["stderr"] == "std"
    assert loaded.points.steps is None and loaded.points.stderr is not None
    assert "'step' is not used as steps" in loaded.notices[0]
    with pytest.raises(InputError, match="row 2: column 'step' is 0, and steps must be finite and positive"):
        sources.load([path], {"steps": "step"})

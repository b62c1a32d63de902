"""The coordinate check on real models: flat under muP, growing without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

from prx_scale import study
from prx_scale.commands.coord_check import CoordCheck
from prx_scale.errors import InputError
from prx_scale.training.coordcheck import trajectory
from scaling.coordinates import BAND

STUDY = """
[study]
name = "check"
[model]
depth = 2
patch = 4
[training]
steps = 100
batch = 16
optimizer = {optimizer}
"""


def check(tmp_path: Path, *arguments: str, optimizer: str = '"adamw"') -> int:
    (tmp_path / "s.toml").write_text(STUDY.format(optimizer=optimizer))
    return tyro.cli(CoordCheck, args=[str(tmp_path / "s.toml"), *arguments]).run()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_activations_move_as_much_at_every_width_under_mup_only(optimizer: str, tmp_path: Path) -> None:
    out, page = tmp_path / "check.json", tmp_path / "check.html"
    arguments = ("--widths", "64,128,256", "--steps", "5", "--json", str(out), "--html", str(page))
    assert check(tmp_path, *arguments, optimizer=f'"{optimizer}"') == 0
    document = json.loads(out.read_text())
    slopes = {(each["scheme"], each["quantity"]): each["slope"] for each in document["slopes"]}
    under_mup = {quantity: slope for (scheme, quantity), slope in slopes.items() if scheme == "muP"}
    assert len(under_mup) == 12
    assert all(abs(slope) <= BAND for slope in under_mup.values()), under_mup
    assert slopes["standard", "block 0 modulation"] > 1
    assert slopes["standard", "block 0 image"] > 2 * BAND
    assert slopes["standard", "output"] > BAND
    # At the base width the two parametrisations are the same model.
    rows = [row for row in document["rows"] if row["width"] == 64]
    half = len(rows) // 2
    assert [row["size"] for row in rows[:half]] == [row["size"] for row in rows[half:]]
    assert "Coordinate check: check" in page.read_text()


def test_adaln_zero_wakes_up_from_the_output_inwards(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    assert check(tmp_path, "--widths", "64,128", "--steps", "3", "--json", str(out)) == 0
    rows = json.loads(out.read_text())["rows"]
    moved = {step: {row["quantity"] for row in rows if row["step"] == step and row["change"] > 0} for step in range(4)}
    assert moved[0] == set()
    assert moved[1] == {"output"}
    assert "block 0 modulation" in moved[2]
    assert "block 0 logits" in moved[3]


def test_the_embedder_of_sizes_wakes_up_last_and_moves_as_much_at_every_width_under_mup(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(STUDY.format(optimizer='"muon"'))
    run = study.load(tmp_path / "s.toml").runs[0]

    def changes(width: int, base: int) -> list[float]:
        model = replace(run.model, width=width, mup_base_width=base, size_conditioning=True)
        return [row.change for row in trajectory(replace(run, model=model), 3) if row.quantity == "size"]

    small = changes(64, 64)
    assert small[:3] == [0, 0, 0] and small[3] > 1e-3
    # Adam's first update has the same size in all entries, and a vector of four times as many comes before it.
    assert changes(256, 0)[3] / small[3] == pytest.approx(4, rel=0.1)
    assert changes(256, 64)[3] / small[3] == pytest.approx(1, rel=0.1)


def last_block(folder: Path, depth: int, base: int) -> float:
    """How far the image stream behind the last block moves in 6 steps."""
    (folder / "s.toml").write_text(STUDY.format(optimizer='"adamw"\nlr = 0.002'))
    run = study.load(folder / "s.toml").runs[0]
    deep = replace(run, model=replace(run.model, depth=depth, width=64, mup_base_depth=base))
    rows = trajectory(deep, 6)
    return next(row.change for row in rows if row.step == 6 and row.quantity == f"block {depth - 1} image")


def test_depth_mup_keeps_the_stream_from_moving_more_in_deep_models(tmp_path: Path) -> None:
    assert last_block(tmp_path, 8, 0) > 2 * last_block(tmp_path, 2, 0)
    assert last_block(tmp_path, 2, 2) == last_block(tmp_path, 2, 0)
    assert 0.6 < last_block(tmp_path, 8, 2) / last_block(tmp_path, 2, 2) < 1.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--widths", "64,100"], r"--widths 64,100: multiples of 64"),
        (["--widths", "64"], r"at least two different ones"),
        (["--widths", "64;128"], r"multiples of 64 with commas"),
        (["--base", "100"], r"--base 100: not a multiple of 64"),
        (["--steps", "2"], r"--steps 2: at least 3"),
        (["--seeds", "0"], r"--seeds 0: at least 1"),
        (["--run", "d9"], r"no single run 'd9'"),
    ],
)
def test_what_cannot_be_checked_is_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        check(tmp_path, *arguments)

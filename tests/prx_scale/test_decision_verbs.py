"""frontier, allocate and suggest from the command line, and real depths behind them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from prx_scale import depthplan, study
from prx_scale.cli import parse
from prx_scale.errors import InputError
from prx_scale.models.sizes import training_flops

STUDY = """
[study]
name = "ladder"

[model]
depth = [1, 2, 3]
patch = 4

[training]
steps = 600
batch = 32
lr = [1e-3, 2e-3]
seed = [0, 1]
"""


def run(*words: object) -> int:
    """A command line's exit code."""
    return parse([str(word) for word in words]).run()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on a known surface at five sizes for each of four budgets."""
    rng = np.random.default_rng(0)
    flops = np.repeat(np.geomspace(1e18, 1e21, 4), 5)
    params = 0.1 * flops**0.5 / 6**0.5 * np.tile([0.25, 0.5, 1.0, 2.0, 4.0], 4)
    data = flops / (6 * params)
    loss = (1.7 + 400 * params**-0.34 + 1500 * data**-0.36) * np.exp(0.002 * rng.standard_normal(20))
    path = tmp_path_factory.mktemp("table") / "runs.csv"
    rows = [f"{n},{d},{c},{y}" for n, d, c, y in zip(params, data, flops, loss, strict=True)]
    path.write_text("params,tokens,flops,loss\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    """A study that sweeps depth, learning rate and seed."""
    path = tmp_path / "study.toml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def test_frontier(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "frontier.json"
    assert run("frontier", table, "--bootstrap", 50, "--at", "1e22", "--json", target) == 0
    printed = capsys.readouterr().out
    assert "a (N* ~ C^a)" in printed and "power_floor:flops" in printed
    document = json.loads(target.read_text("utf-8"))
    assert document["method"] == "isoflop" and len(document["optima"]) == 4
    assert 0.4 < document["params_exponent"]["value"] < 0.6
    place = document["at"][0]
    assert 6 * place["params"]["value"] * place["data"]["value"] == pytest.approx(1e22, rel=0.05)
    with pytest.raises(InputError, match="fewer than two budgets"):
        run("frontier", table, "--budgets", "1e18")


def test_frontier_of_training_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, lines = tmp_path / "checkpoints.csv", ["params,tokens,flops,loss,run"]
    for params in np.geomspace(1e7, 1e10, 12):
        for data in params * np.geomspace(0.1, 2000, 30):
            loss = 1.7 + 400 * params**-0.34 + 1500 * data**-0.36
            lines.append(f"{params},{data},{6 * params * data},{loss},r{params:.3g}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert run("frontier", path, "--method", "envelope", "--bootstrap", 30) == 0
    printed = capsys.readouterr().out
    assert "lowest curve by compute" in printed and "360 of 360 rows" in printed


def test_allocate_from_a_table_and_from_its_fit(table: Path, tmp_path: Path) -> None:
    fitted, direct, again = (tmp_path / name for name in ("fit.json", "direct.json", "again.json"))
    assert run("fit", table, "--bootstrap", 60, "--json", fitted) == 0
    common = ("--budget", "1e21,1e22", "--inference-samples", "1e12")
    assert run("allocate", table, "--bootstrap", 60, *common, "--json", direct) == 0
    assert run("allocate", fitted, *common, "--json", again) == 0
    one, other = (json.loads(path.read_text("utf-8")) for path in (direct, again))
    for mine, theirs in zip(one["allocations"], other["allocations"], strict=True):
        assert mine["params"]["value"] == pytest.approx(theirs["params"]["value"], rel=1e-6)
        assert mine["loss"]["interval"] == pytest.approx(theirs["loss"]["interval"], rel=1e-6)
    life = one["allocations"][0]["lifetimes"][0]
    assert life["per_training_cost"] == pytest.approx(1 / 3) and life["saving"] > 0


def test_allocate_among_depths(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "depths.json"
    words = ("--budget", "1e21", "--depths", "10-40", "--bootstrap", 60, "--json", target)
    assert run("allocate", table, *words) == 0
    assert "best in" in capsys.readouterr().out
    document = json.loads(target.read_text("utf-8"))
    rows = {row["depth"]: row for row in document["allocations"][0]["depths"]}
    best = min(rows.values(), key=lambda row: row["loss"])
    assert rows[38]["params"] == 36 * 37 * 2432**2 + 30 * 37 * 2432 + 23 * 2432**2 + 20 * 2432 + 2 * 2432**2 + (
        2 * 2432 + 64 * 2433 + 38 * 256
    )
    assert rows[38]["flops_per_sample"] == 3 * 2265974247424
    assert best["samples"] * best["flops_per_sample"] == pytest.approx(1e21, rel=1e-9)
    assert all(best["loss"] <= row["loss"] and row["compute_factor"] >= 1 - 1e-6 for row in rows.values())
    assert sum(row["best_share"] for row in rows.values()) == pytest.approx(1.0)


def test_a_family_is_the_study_with_its_depth_taken_out(study_file: Path) -> None:
    family = depthplan.family_of(study_file)
    runs = study.load(study_file).runs
    from prx_scale.models.build import model_shape

    for each in runs:
        assert family.at(each.model.depth) == model_shape(each)
    cost = depthplan.family_cost(family, "samples")
    deep = depthplan.depth_costs(family, [7], "samples")[0]
    assert float(cost.per_sample(deep.params)) == pytest.approx(training_flops(family.at(7)), rel=1e-12)


@pytest.mark.parametrize("text", ["", "a", "3-1", "0-4", "1-999", "4,x"])
def test_depths_that_cannot_be(text: str) -> None:
    with pytest.raises(InputError, match="--depths"):
        depthplan.parse_depths(text)


def test_depths_that_can_be() -> None:
    assert depthplan.parse_depths("15, 18,20-22") == (15, 18, 20, 21, 22)


def test_suggest_from_a_table(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "next.json"
    words = ("--budget", "5e20", "--target", "flops=1e23", "--bootstrap", 150, "--json", target)
    assert run("suggest", table, *words) == 0
    assert "runs to launch" in capsys.readouterr().out
    document = json.loads(target.read_text("utf-8"))
    assert document["spent"] <= 5e20 and document["width_after"] < document["width_before"]
    assert document["target_flops"] == 1e23 and document["fragment"] == ""


def test_what_is_suggested_for_a_study_can_be_swept(study_file: Path, tmp_path: Path) -> None:
    family, rng = depthplan.family_of(study_file), np.random.default_rng(0)
    lines = ["params,samples,flops,loss,run"]
    for depth, cost in zip((1, 2, 3), depthplan.depth_costs(family, (1, 2, 3), "samples"), strict=True):
        for seed, step in ((s, t) for s in (0, 1) for t in (300, 450, 600)):
            samples = step * family.batch
            loss = (0.1 + 9.0 * cost.params**-0.35 + 20.0 * samples**-0.4) * np.exp(0.003 * rng.standard_normal())
            lines.append(f"{cost.params},{samples},{samples * cost.flops_per_sample},{loss},d{depth}s{seed}")
    table, fragment = tmp_path / "losses.csv", tmp_path / "next.toml"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ("--budget", "4e13", "--target", "params=30M,samples=1M", "--bootstrap", 150, "--fragment", fragment)
    assert run("suggest", table, "--law", "tied", "--study", study_file, *words) == 0
    before = study.load(study_file)
    study_file.write_text(STUDY + "\n" + fragment.read_text("utf-8"), encoding="utf-8")
    after = study.load(study_file)
    added = [each for each in after.runs if each.variant != "base"]
    assert 1 <= len(added) <= 12 and len(after.runs) == len(before.runs) + len(added)
    assert len({each.id for each in after.runs}) == len(after.runs)
    costs = {each.depth: each for each in depthplan.depth_costs(family, range(1, 60), "samples")}
    spent = sum(each.training.steps * 32 * costs[each.model.depth].flops_per_sample for each in added)
    assert spent <= 4e13
    assert any(each.model.depth > 3 for each in added), "three sizes ask for a fourth"


@pytest.mark.parametrize(
    "words, message",
    [
        (("allocate", "missing.json", "--budget", "1e20"), "no such file"),
        (("allocate", "TABLE", "--budget", "many"), "--budget many"),
        (("allocate", "TABLE", "--budget", "1e20", "--law", "power_floor:flops", "--bootstrap", "0"), "trade off"),
        (
            ("allocate", "TABLE", "--budget", "1e20", "--inference-samples", "1e9", "--inference-steps", "0"),
            "at least 1",
        ),
        (("suggest", "TABLE", "--budget", "1e20", "--target", "data=3"), "--target data=3"),
        (("suggest", "TABLE", "--budget", "1e20", "--target", "params=1e9,samples=3e9"), "count data in tokens"),
        (("suggest", "TABLE", "--budget", "1e20", "--target", "flops=1e22", "--depths", "1-3"), "needs a study"),
        (("suggest", "TABLE", "--budget", "1e20", "--target", "flops=1e22", "--bootstrap", "0"), "at least 100"),
        (("suggest", "TABLE", "--budget", "1e3", "--target", "flops=1e22", "--bootstrap", "100"), "cheapest run"),
        (("suggest", "TABLE", "--budget", "1", "--target", "flops=1", "--fragment", "x.toml"), "needs a study"),
    ],
)
def test_bad_input_is_named(table: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(*(str(table) if word == "TABLE" else word for word in words))


def test_a_damaged_fit_is_named(tmp_path: Path, table: Path) -> None:
    path = tmp_path / "fit.json"
    for text, message in (("{", "not JSON"), ("[]", "not a fit"), ('{"schema": 0}', "schema")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            run("allocate", path, "--budget", "1e20")
    with pytest.raises(InputError, match="stands alone"):
        run("allocate", path, table, "--budget", "1e20")
    with pytest.raises(InputError, match="finished fit"):
        run("allocate", path, "--budget", "1e20", "--law", "tied")

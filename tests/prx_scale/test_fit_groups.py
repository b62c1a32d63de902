"""``prx-scale fit --by``: groups agree with fits of their own, and those that cannot be fitted are named."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from prx_scale.cli import parse
from prx_scale.commands import pages
from prx_scale.errors import InputError
from scaling import FitResult

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "overtraining" / "overtraining_c4_val.csv")


def run(*words: str, source: str = EXAMPLE) -> int:
    return parse(["fit", source, "--bootstrap", "20", *words]).run()


def test_every_group_is_fitted_as_if_alone(capsys: pytest.CaptureFixture[str]) -> None:
    predict = ("--predict", "params=6.89B,tokens=137.8B")
    assert run("--by", "train_set", "--json", "-", *predict) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["by"], document["skipped"]) == (1, ["train_set"], [])
    assert [each["group"]["train_set"] for each in document["fits"]] == ["c4_original", "rpj", "rw_original"]
    for each in document["fits"]:
        assert run("--where", f"train_set={each['group']['train_set']}", "--json", "-", *predict) == 0
        alone = json.loads(capsys.readouterr().out)
        for key in ("parameters", "predictions", "draws", "warnings", "objective"):
            assert each[key] == alone[key]
        assert FitResult.from_json(each).n_points == each["n_points"]


def test_the_table_has_a_row_a_group_and_pages_have_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--by", "train_set", "--html", str(tmp_path / "fit.html"), "--where", "train_set!=rpj") == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert ["E", "c4_original", "34"] in [row[:3] for row in rows]
    assert ["rw_original", "35"] in [row[:2] for row in rows]
    pages = sorted(path.name for path in tmp_path.iterdir())
    assert pages == ["fit-c4_original.html", "fit-rw_original.html"]
    assert all(f"wrote {tmp_path / page}" in printed for page in pages)


def table(folder: Path, small_rows: int) -> str:
    frame = pl.read_csv(EXAMPLE)
    small = frame.filter(pl.col("train_set") == "rpj").head(small_rows).with_columns(train_set=pl.lit("tiny"))
    kept = frame.filter(pl.col("train_set") == "rpj") if small_rows < 5 else frame.head(0)
    pl.concat([kept, small]).write_csv(folder / "table.csv")
    return str(folder / "table.csv")


def test_a_group_that_is_too_small_is_skipped_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(tmp_path, 3)
    assert run("--by", "train_set", "--json", str(tmp_path / "f.json"), source=source) == 0
    assert "skipped tiny: " in capsys.readouterr().out
    (skipped,) = json.loads((tmp_path / "f.json").read_text())["skipped"]
    assert skipped["group"] == {"train_set": "tiny"}
    assert "3 points cannot determine the 5 parameters" in skipped["reason"]


def test_no_group_at_all_is_bad_input(tmp_path: Path) -> None:
    source = table(tmp_path, 8)
    with pytest.raises(InputError, match=r"(?s)no group of --by run,train_set can be fitted.*1 point cannot determine"):
        run("--by", "run,train_set", "--json", str(tmp_path / "f.json"), source=source)
    assert not (tmp_path / "f.json").exists()
    with pytest.raises(InputError, match="did you mean 'train_set'"):
        run("--by", "trainset")


def test_last_and_thin_exclude_each_other() -> None:
    with pytest.raises(InputError, match="--last keeps one row"):
        run("--last", "--thin", "3")


def test_a_page_of_very_many_points_draws_some_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--bootstrap", "0", "--html", str(tmp_path / "all.html")) == 0
    monkeypatch.setattr(pages, "_MOST_DRAWN", 20)
    assert run("--bootstrap", "0", "--html", str(tmp_path / "some.html")) == 0
    every, some = ((tmp_path / name).read_text() for name in ("all.html", "some.html"))
    assert "draws 20 of the 104 points" in some and "of the 104 points, evenly" not in every
    assert len(some) < len(every)

"""``prx-scale filter`` from the command line: what it prints and writes, what it refuses, and that it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from prx_scale.cli import run
from prx_scale.data.filters import Manifest
from tests.prx_scale.data.filter_data import write_clip, write_predictor, write_shards

ROOT = Path(__file__).parents[2]
SKIPPED = 6


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRX_SCALE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_shards(tmp_path_factory.mktemp("shards")) / "*.tar")


def words(*parts: object) -> list[str]:
    return ["filter", *(str(part) for part in parts)]


def test_it_scores_cuts_weights_and_says_so(shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cuts = ("--cut", "caption_words>=4", "--cut", "duplicate_of==", "--weight", "caption_words>=q0.5:3")
    page, document = tmp_path / "page.html", tmp_path / "filter.json"
    assert run(words(shards, "--out", tmp_path / "out", *cuts, "--html", page, "--json", document)) == 0
    out = capsys.readouterr().out
    assert "39 of 60 samples kept (65.0%)" in out
    assert "6 could not be used: 3 truncated image, 3 unknown format" in out
    rows = {line.split("  ")[0]: line.split("  ")[1:] for line in out.splitlines()}
    cells = {cut: [cell.strip() for cell in row if cell] for cut, row in rows.items()}
    assert cells["caption_words >= 4"] == ["9", "9", "9", "0", "45 (83.3%)"]
    assert cells["no duplicate_of"] == ["6", "6", "6", "0", "39 (72.2%)"]
    assert "effective samples" in out and f"wrote {page}" in out and f"wrote {document}" in out
    manifest, told = Manifest.open(tmp_path / "out"), json.loads(document.read_text())
    assert told["counts"] == manifest.info["counts"] and "shards" not in told
    assert told["provenance"]["version"] and page.read_text().startswith("<!doctype html>")


def test_other_cuts_over_the_same_scores_read_no_image(shards: str, tmp_path: Path) -> None:
    assert run(words(shards, "--out", tmp_path)) == 0
    parts = sorted((tmp_path / "scores").glob("*.parquet"))
    before = [part.stat().st_mtime_ns for part in parts]
    assert Manifest.open(tmp_path).kept == 60 - SKIPPED
    assert run(words(shards, "--out", tmp_path, "--cut", "min_side>=90")) == 0
    assert [part.stat().st_mtime_ns for part in parts] == before and len(parts) == 3
    table = Manifest.open(tmp_path).table().collect()
    assert Manifest.open(tmp_path).kept == (table["min_side"] >= 90).sum() < 60 - SKIPPED


def test_json_alone_on_standard_output(shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words(shards, "--out", tmp_path, "--json", "-", "--no-duplicates")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["counts"]["samples"] == 60 and document["duplicates"] is None
    assert [each["name"] for each in document["scorers"]] == ["size", "caption length", "source"]


def test_with_clip_and_a_predictor(shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, head = write_clip(tmp_path / "clip"), write_predictor(tmp_path / "head.safetensors")
    models = ("--clip", clip, "--aesthetic", head, "--device", "cpu")
    cuts = ("--cut", "clip_similarity>=q0.25", "--cut", "aesthetic>=q0.5")
    assert run(words(shards, "--out", tmp_path / "out", *models, *cuts)) == 0
    table = Manifest.open(tmp_path / "out").table().collect()
    assert table["clip_similarity"].null_count() == table["aesthetic"].null_count() == SKIPPED
    info = Manifest.open(tmp_path / "out").info
    assert [each["alone"] for each in info["cuts"]] == [14, 27]
    assert info["scorers"][-1]["identity"]["head"] and "aesthetic >= " in capsys.readouterr().out


def test_the_notes_say_what_to_look_at(shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = ("--scores", "watermark=json.watermark", "--cut", "watermark<0")
    assert run(words(shards, "--out", tmp_path, *scores)) == 0
    out = capsys.readouterr().out
    assert "[nothing-left] No sample is kept" in out and "[many-skipped] 10.0% could not be used" in out
    assert "'watermark<0' also removes the 9 samples that lack the score; 'watermark<0 or none' would" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cut", "aesthetik>=5"), "no score 'aesthetik'"),
        (("--cut", "aesthetic>5"), "no score 'aesthetic'; give --clip MODEL and --aesthetic FILE, or --scores"),
        (("--cut", "min_side=>5"), "not a condition"),
        (("--weight", "min_side>=5"), "no factor above 0"),
        (("--duplicates", "13"), "0 to 12 bits are right"),
        (("--no-duplicates", "--cut", "duplicate_of=="), "no score 'duplicate_of'"),
        (("--part", "0/4"), "I/N with I from 1 to N"),
        (("--part", "5/4"), "I/N with I from 1 to N"),
        (("--part", "half"), "as in 3/8"),
        (("--aesthetic", "head.safetensors"), "needs the embeddings of a CLIP model"),
        (("--clip", "no/such/folder"), "cannot be loaded"),
        (("--caption", "long"), "none of the first samples has such a caption"),
        (("--captions", "long=json.llava"), "samples has 'json.llava' (for 'long'); did you mean 'json."),
        (("--scores", "watermark"), "NAME=FIELD"),
        (("--scorer", "watermark"), "NAME=module:callable"),
        (("--workers", "0"), "0 is too small; at least 1"),
        (("--html", "."), "--html .: is a folder; name the file, as filter.html"),
        (("--scorer", "x=no.py:f"), "no file no.py"),
        (("--scores", "pixels=json.cluster"), "two scores are named 'pixels'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_scored(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run(words(shards, "--out", tmp_path / "out", *arguments)) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "out").glob("scores/*.parquet"))


def test_a_place_that_cannot_be_written_to_is_said(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("here before")
    assert run(words(shards, "--out", file)) == 2
    assert f"--out {file}: is a file; a folder is right" in " ".join(capsys.readouterr().err.split())
    assert run(words(shards, "--out", file / "in it")) == 2
    assert f"{file}/in it: Not a directory" in " ".join(capsys.readouterr().err.split())
    assert file.read_text() == "here before"


def test_data_that_are_not_there_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words(tmp_path / "no.tar", "--out", tmp_path / "out")) == 2
    assert "no such file" in capsys.readouterr().err


def test_parts_first_then_the_whole(shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("2/2", "1/2"):
        assert run(words(shards, "--out", tmp_path, "--part", part)) == 0
        assert "when all are, run without --part" in capsys.readouterr().out
    assert not (tmp_path / "manifest.json").exists()
    assert run(words(shards, "--out", tmp_path)) == 0
    assert Manifest.open(tmp_path).samples == 60


SLOW = """
import time

def slow(batch):
    time.sleep(0.15)
    return [float(each.size[0]) for each in batch]
"""


def test_killed_and_started_again_it_ends_as_if_never_killed(tmp_path: Path) -> None:
    data, own = write_shards(tmp_path / "data", shards=8, each=10), tmp_path / "own.py"
    own.write_text(SLOW)
    common = (data, "--scorer", f"height_again={own}:slow", "--cut", "min_side>=90", "--cut", "duplicate_of==")
    command = [sys.executable, "-m", "prx_scale", *words(*common, "--out", tmp_path / "killed", "--workers", 2)]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    scores = tmp_path / "killed" / "scores"
    deadline = time.monotonic() + 60
    while len(list(scores.glob("[0-9]*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    child.send_signal(signal.SIGKILL)
    child.wait()
    while any(Path("/proc", worker).exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) >= 2 and not [worker for worker in workers if Path("/proc", worker).exists()]
    done = {part.name: part.stat().st_mtime_ns for part in scores.glob("[0-9]*.parquet")}
    assert 3 <= len(done) < 8 and not (tmp_path / "killed" / "manifest.json").exists()
    assert run(words(*common, "--out", tmp_path / "killed")) == 0
    assert run(words(*common, "--out", tmp_path / "whole")) == 0
    assert {name: (scores / name).stat().st_mtime_ns for name in done} == done
    killed, whole = (Manifest.open(tmp_path / name) for name in ("killed", "whole"))
    assert killed.identity == whole.identity
    assert killed.table().collect().equals(whole.table().collect())
    assert pl.read_parquet(tmp_path / "killed" / "samples" / "*.parquet").height == 80

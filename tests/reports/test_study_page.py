"""The page of a study: every section in order, and words where something is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prx_scale.errors import InputError
from prx_scale.runs import load_runs
from prx_scale.runs.info import State
from reports.page import Facts, Figure, ImageGrid, Page, Prose, Table, Verdict, walk
from reports.render import render_html
from reports.study_page import build_study_page, write_study_report

SECTIONS = ["about", "summary", "training", "fit", "prediction", "evaluation", "samples", "runs", "provenance"]


def blocks(page: Page, kind: type[Any]) -> list[Any]:
    """All blocks of one kind, in order."""
    return [block for section in page.sections for block in walk(section.blocks) if isinstance(block, kind)]


def section_text(page: Page, key: str) -> str:
    """The prose of one section."""
    section = next(section for section in page.sections if section.key == key)
    return " ".join(block.text for block in walk(section.blocks) if isinstance(block, (Prose, Verdict)))


def test_a_finished_study_has_every_section_and_figure(full_study: Path) -> None:
    page = build_study_page(full_study)
    assert [section.key for section in page.sections] == SECTIONS
    assert [figure.key for figure in blocks(page, Figure)] == [
        "loss-steps",
        "loss-compute",
        "loss-levels",
        "fit-curves",
        "fit-residuals",
        "fit-frontier",
        "predicted-measured",
        "prediction-errors",
        "loss-geneval",
        "geneval-tasks",
    ]
    about = section_text(page, "about")
    assert "real study of a small embedded problem" in about
    assert "losses on a known surface." in about
    assert "The fit does not see depth 4" in about and "variants" not in about


def test_the_summary_quotes_the_record(full_study: Path) -> None:
    page = build_study_page(full_study)
    facts = {fact.label: fact for fact in blocks(page, Facts)[0].items}
    assert facts["Runs finished"].text == "7 of 8"
    verdict = json.loads((full_study / "fit" / "verdict.json").read_text(encoding="utf-8"))
    assert facts["Depth 4: predicted → measured"].value == verdict["checks"][0]["measured"]
    assert blocks(page, Verdict)[0].text == verdict["sentence"]
    assert (blocks(page, Verdict)[0].outcome == "held") == verdict["checks"][0]["held"]


def test_failed_runs_are_listed_with_reason_and_last_good_step(full_study: Path) -> None:
    html = render_html(build_study_page(full_study))
    assert "the loss became nan at step 231 &lt;b&gt;bold&lt;/b&gt;. Last good step: 200" in html
    assert "<b>bold</b>" not in html


def test_hostile_prompts_are_escaped(full_study: Path) -> None:
    html = render_html(build_study_page(full_study))
    assert "<script>alert('prompt')" not in html
    assert "&lt;script&gt;alert(&#39;prompt&#39;)" in html


def test_samples_show_the_same_prompts_for_every_depth(full_study: Path) -> None:
    grid: ImageGrid = blocks(build_study_page(full_study), ImageGrid)[0]
    assert grid.columns == ("Depth 1", "Depth 2", "Depth 3", "Depth 4")
    assert len(grid.rows) == 8
    assert all(len(cell) == 2 for row in grid.rows for cell in row.cells)
    marks = {image.mark for row in grid.rows for cell in row.cells for image in cell}
    assert marks == {"correct", "incorrect"}


def test_the_report_is_small_and_its_json_has_the_same_numbers(full_study: Path, tmp_path: Path) -> None:
    out = write_study_report(full_study, tmp_path / "page.html")
    assert out == tmp_path / "page.html"
    assert out.stat().st_size < 3e6
    record = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))
    assert [section["key"] for section in record["sections"]] == SECTIONS
    table = next(table for table in blocks(build_study_page(full_study), Table) if table.title == "Runs of the study")
    runs = next(section for section in record["sections"] if section["key"] == "runs")["blocks"][0]
    assert runs["rows"][0] == [cell.value for cell in table.rows[0]]


def test_the_report_goes_into_the_study_by_default(full_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(full_study, tmp_path / "copy"))
    assert write_study_report(study) == study / "report.html"


def test_a_study_without_any_result_says_so(tmp_path: Path, writer: Any) -> None:
    writer.run(tmp_path, 1, 0, state=State.PENDING, step=0)
    page = build_study_page(tmp_path)
    assert blocks(page, Figure) == []
    assert blocks(page, Verdict)[0].outcome == "open"
    for key, words in {
        "training": "No run has been validated yet",
        "fit": "No scaling law has been fitted yet",
        "prediction": "No prediction was written down",
        "evaluation": "No checkpoint has been evaluated yet",
        "samples": "No samples have been drawn yet",
    }.items():
        assert words in section_text(page, key)
    render_html(page)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            {"dataset": "store", "path": "/far/cc12m-256"},
            "Trained on the store cc12m-256: latents by sd3 at 256 pixels, and captions by clip-l and t5.",
        ),
        ({"dataset": "images", "path": "/far/photos"}, "Trained on the images of photos, encoded while training: lat"),
        ({"dataset": "random", "sizes": []}, "Trained on random numbers, which teach nothing"),
    ],
)
def test_the_report_says_what_was_trained_on(tmp_path: Path, writer: Any, data: dict[str, Any], words: str) -> None:
    sizes = ["channels 16", "text clip-l 0 77 0 768 0 768", "text t5 77 154 0 4096 0 0", "image sd3"]
    config = writer.run(tmp_path, 1, 0, state=State.PENDING, step=0).config
    table = {**config.get("data", {}), "image_size": 256, "sizes": sizes, **data}
    writer.run(tmp_path, 1, 0, state=State.PENDING, step=0, config={**config, "data": table})
    assert words in section_text(build_study_page(tmp_path), "about")


def test_a_study_under_way_shows_what_there_is(tmp_path: Path, writer: Any) -> None:
    info = writer.run(tmp_path, 2, 0, state=State.RUNNING, step=50)
    writer.scores(tmp_path, info, 50)
    page = build_study_page(tmp_path)
    figures = {figure.key: figure for figure in blocks(page, Figure)}
    assert set(figures) == {"loss-steps", "loss-compute", "loss-levels", "loss-geneval", "geneval-tasks"}
    assert "Too few checkpoints" in figures["loss-geneval"].subtitle
    render_html(page)


def test_a_study_of_failed_runs_only(tmp_path: Path, writer: Any) -> None:
    writer.run(tmp_path, 1, 0, state=State.FAILED, step=0, reason="out of memory")
    page = build_study_page(tmp_path)
    assert "failed at step 0 of 600: out of memory. It has no good step." in render_html(page)


@pytest.mark.parametrize("content", ["{", '{"schema": 1}', '{"schema": 7}', "[]", "null"])
@pytest.mark.parametrize("name", ["fit.json", "prediction.json", "verdict.json"])
def test_damaged_fit_files_become_sentences(tmp_path: Path, writer: Any, name: str, content: str) -> None:
    writer.run(tmp_path, 1, 0)
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / name).write_text(content, encoding="utf-8")
    assert f"fit/{name} could not be read" in section_text(build_study_page(tmp_path), "about")


def test_damaged_points_leave_the_parameters(full_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(full_study, tmp_path / "copy"))
    (study / "fit" / "points.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    page = build_study_page(study)
    assert "fit/points.csv could not be read" in section_text(page, "about")
    assert "Parameters of the law" in [table.title for table in blocks(page, Table)]


def test_a_prediction_made_too_late_is_called_late(full_study: Path, tmp_path: Path) -> None:
    assert "before they started" in section_text(build_study_page(full_study), "prediction")
    study = Path(shutil.copytree(full_study, tmp_path / "copy"))
    path = study / "fit" / "prediction.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, "before_training": False}), encoding="utf-8")
    assert "when they had already started" in section_text(build_study_page(study), "prediction")


def test_a_torn_row_and_a_missing_picture_are_survived(full_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(full_study, tmp_path / "copy"))
    run = next(path for path in (study / "runs").iterdir() if path.name.startswith("d1-s0"))
    with (run / "validation.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 650, "loss"')
    next(run.glob("samples/*/00000/0000.png")).unlink()
    next(run.glob("samples/*/00000/0001.png")).write_bytes(b"not a picture")
    page = build_study_page(study)
    assert "cut short" in section_text(page, "about")
    assert blocks(page, ImageGrid)[0].rows[0].cells[0] == ()
    render_html(page)


def test_a_sample_outside_its_folder_is_not_embedded(full_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(full_study, tmp_path / "copy"))
    secret = next(study.glob("runs/d2-s0*/samples/*/00000/0000.png"))
    listing = next(study.glob("runs/d1-s0*/samples/*/samples.jsonl"))
    row = json.loads(listing.read_text(encoding="utf-8").splitlines()[0])
    listing.write_text(json.dumps({**row, "file": str(secret)}) + "\n", encoding="utf-8")
    assert blocks(build_study_page(study), ImageGrid)[0].rows[0].cells[0] == ()


def test_large_samples_are_scaled_down_to_the_budget(full_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(full_study, tmp_path / "copy"))
    noise = np.random.default_rng(0).integers(0, 256, size=(160, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    for path in study.glob("runs/*/samples/*/*/*.png"):
        shutil.copy(tmp_path / "noise.png", path)
    assert write_study_report(study).stat().st_size < 3e6


def test_a_smoke_study_says_that_it_is_one(tmp_path: Path, writer: Any) -> None:
    writer.run(tmp_path, 1, 0, config={"smoke": True})
    assert "This is a smoke run" in section_text(build_study_page(tmp_path), "about")


def test_variants_get_a_column(tmp_path: Path, writer: Any) -> None:
    writer.run(tmp_path, 1, 0)
    writer.run(tmp_path, 1, 0, variant="wide")
    page = build_study_page(tmp_path)
    table = next(table for table in blocks(page, Table) if table.title == "Runs of the study")
    assert [column.label for column in table.columns][2] == "Variant"
    assert "variants base and wide" in section_text(page, "about")


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no runs here"):
        build_study_page(tmp_path)


def test_runs_that_never_started_are_named(full_study: Path) -> None:
    started = [run.run for run in load_runs(full_study)]
    html = render_html(build_study_page(full_study, [*started, "d9-s0-ffffffff"]))
    assert f"Not started: 1 run of {len(started) + 1}, d9-s0-ffffffff." in html
    assert "1 not started" in html
    assert "ot started" not in render_html(build_study_page(full_study, started))

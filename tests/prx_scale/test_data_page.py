"""The pages on data: their examples run, their tables are those of the code."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import json
import re
import shlex
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prx_scale import study, tables
from prx_scale.cli import run
from prx_scale.data.buckets import BucketTable, bucket_list
from prx_scale.data.captions import CaptionTable
from prx_scale.stages import resolve, samples_before
from prx_scale.stagetables import Source
from prx_scale.training.batches import TrainingData
from tests.prx_scale.data.made import jpeg
from tests.prx_scale.data.stores import make
from tests.prx_scale.training.mixed import FIRST, recipe_of

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "data.md").read_text("utf-8")
ALL = "\n".join(
    ["", *((DOCS / f"{name}.md").read_text("utf-8") for name in ("data", "encode", "on-the-fly", "stages"))]
)


def section(name: str) -> str:
    """A page, or a section of one, with those below it."""
    (found,) = (part for part in re.split(r"\n##? ", ALL) if part.startswith(f"{name}\n"))
    return found


def blocks(name: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", section(name), flags=re.DOTALL)


def example(tmp_path: Path, stages: str) -> study.Study:
    """The page's study with other stages."""
    (tmp_path / "study.toml").write_text(blocks("Stages", "toml")[-1] + stages)
    return study.load(tmp_path / "study.toml")


@pytest.mark.parametrize("name", ["Buckets", "Captions", "Stages"])
def test_examples_give_what_they_show(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example(tmp_path, blocks("Stages", "toml")[0])
    monkeypatch.chdir(tmp_path)
    text = "\n".join(blocks(name, "python"))
    test = doctest.DocTestParser().get_doctest(text, {}, name, "docs", 0)
    assert test.examples
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not report, "".join(report)


def test_ladders_are_studies(tmp_path: Path) -> None:
    stages = blocks("Stages", "toml")
    sd3 = resolve(example(tmp_path, stages[0]).runs[0])
    assert [(stage.image_size, stage.shift) for stage in sd3] == [(256, 1.0), (512, 2.0), (1024, 3.0)]
    base = stages[-1].replace("position_grid = 64", "position_grid = 83")
    (tmp_path / "study.toml").write_text(base + stages[1])
    qwen = resolve(study.load(tmp_path / "study.toml").runs[0])
    assert [stage.image_size for stage in qwen] == [256, 640, 1328]
    assert all(bucket_list(BucketTable(rule="qwen-image"), stage.image_size, 16) for stage in qwen)


def schedules() -> dict[str, str]:
    """The page's studies on several stores, at the 32 pixels of the stores of tests."""
    whole, replayed, sft = blocks("Stages", "toml")[2:5]
    whole = whole.replace("image_size = 256", "image_size = 32")
    header, synthetic, *_ = whole.split("[[stage]]")
    sft = header.split("[captions]")[0] + sft.replace("warmup = 100", "warmup = 1")
    return {"whole": whole, "replay": f"{header}[[stage]]{synthetic}{replayed}", "sft": sft}


@pytest.mark.parametrize(
    ("name", "steps", "stores"),
    [
        ("whole", [60000, 30000, 30000, 2], ["synthetic", "synthetic photos", "synthetic photos", "curated"]),
        ("replay", [60000, 30000, 60000], ["synthetic", "synthetic photos", "photos"]),
        ("sft", [2], ["curated"]),
    ],
)
def test_schedules_on_several_stores_have_batches(
    tmp_path: Path, name: str, steps: list[int], stores: list[str]
) -> None:
    for store, first in FIRST.items():
        make(tmp_path / store, recipe_of(store), first)
    (tmp_path / "study.toml").write_text(schedules()[name])
    (run,) = study.load(tmp_path / "study.toml").runs
    assert [stage.steps for stage in run.stages] == steps
    data = TrainingData(run)
    for stage, expected in zip(resolve(run), stores, strict=True):
        seen = samples_before(resolve(run), stage.last - 1)
        _, dataset = data.after(seen)
        batch = dataset.batch(np.arange(seen, seen + stage.batch))
        assert len(batch.image) == stage.batch
        own = data.turns.after(seen).data or (Source(path="photos"),)
        assert [Path(source.path).name for source in own] == expected.split()


@pytest.mark.parametrize(("name", "table"), [("Buckets", BucketTable), ("Captions", CaptionTable)])
def test_keys_choices_and_bounds_are_described(name: str, table: type[Any]) -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \|", section(name), flags=re.MULTILINE)
    found = {key: (kind, default) for key, kind, default in rows}
    kinds = tables.field_types(table)
    for item in dataclasses.fields(table):
        kind, default = found[item.name]
        value: Any = list(item.default) if isinstance(item.default, tuple) else item.default
        assert default == f"`{json.dumps(value)}`"
        if typing.get_origin(kinds[item.name]) is typing.Literal:
            assert all(f"`{json.dumps(choice)}`" in kind for choice in typing.get_args(kinds[item.name]))
        low, high = item.metadata.get("low"), item.metadata.get("high")
        assert high is None or kind.endswith(f", {low:g} to {high:g}")
        assert low is None or high is not None or kind.endswith(f", at least {low:g}")


@pytest.mark.parametrize("rule", ["square", "prx", "qwen-image", "sd3"])
def test_lists_at_256_are_those_of_the_page(rule: str) -> None:
    (row,) = re.findall(rf"^\| `{rule}` \| .* \| ([^|]*) \|$", section("Buckets"), flags=re.MULTILINE)
    table = BucketTable(rule=rule)  # type: ignore[arg-type]
    sizes = bucket_list(table, 256, 16)
    assert [size.name for size in sizes[: len(sizes) // 2 + 1]] == row.removesuffix(" and turned").split(", ")


@pytest.mark.parametrize("name", ["Encoding", "On the fly"])
def test_what_is_imported_is_there(name: str) -> None:
    """The examples need data and weights; their names are checked at least."""
    (block,) = blocks(name, "python")
    tree = ast.parse(block)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    scope: dict[str, Any] = {}
    exec(compile(ast.Module(body=imports, type_ignores=[]), "docs", "exec"), scope)  # type: ignore[arg-type]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        if call.func.id in scope and dataclasses.is_dataclass(scope[call.func.id]):  # type: ignore[union-attr]
            known = {field.name for field in dataclasses.fields(scope[call.func.id])}  # type: ignore[union-attr]
            assert {word.arg for word in call.keywords} <= known


@pytest.mark.slow
def test_the_page_begins_with_commands_that_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 40 pictures, with the small encoders and a small model; every other word is the page's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("photos").mkdir()
    for number in range(40):
        Path(f"photos/{number}.jpg").write_bytes(jpeg(270 + number, 300 + 5 * (number % 9), seed=number))
        Path(f"photos/{number}.txt").write_text(f"picture {number}")
    (small,) = blocks("Small encoders", "python")
    exec(compile(small, "docs/data.md", "exec"), {})
    beginning = PAGE.split("\n## ", 1)[0]
    (toml,) = re.findall(r"```toml\n(.*?)```", beginning, flags=re.DOTALL)
    for old, new in {
        "[12, 18, 24]": "1",
        "image_size = 256": "image_size = 256\nheldout = 0.25",
        "100_000": "3",
        "batch = 256": "batch = 4\nwarmup = 1",
    }.items():
        assert old in toml
        toml = toml.replace(old, new)
    Path("photos-256.toml").write_text(toml + "[validation]\nimages = 4\n")
    (shell,) = re.findall(r"```sh\n(.*?)```", beginning, flags=re.DOTALL)
    encoders = "--image-encoder sd3 --text-encoders clip-l clip-g t5"
    assert encoders in shell
    for line in shell.replace(encoders, "--image-encoder sd3=tiny --text-encoders t5=tiny").splitlines():
        assert run(shlex.split(line)[1:]) == 0, line
    assert Path("filter.html").exists() and Path("photos-256/report.html").exists()

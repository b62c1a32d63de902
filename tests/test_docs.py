"""The documentation against the code: links resolve, commands exist, every key and column is described."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import re
import shlex
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prx_scale import sources, study, tables
from prx_scale.allocation import SlurmTable
from prx_scale.cli import parse
from prx_scale.runs.info import RunInfo
from prx_scale.runs.loading import frame_schema
from prx_scale.runs.rows import TABLES, EvaluationRow, TrainRow, ValidationRow
from prx_scale.sbatch import PASSED_THROUGH
from prx_scale.stagetables import Source, Stage
from scaling import fit
from scaling.laws import LAWS
from scaling.optimum import optimum

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^\s*(?:\$ )?((?:prx-scale|make|torchrun) .*)$")


def name_of(page: Path) -> str:
    """The page's path within the repository."""
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that a Markdown page's headings make."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link} does not exist"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)}: {link}: no such heading"


def commands(page: Path) -> Iterator[str]:
    """The prx-scale, make and torchrun commands of a page's code blocks, continued lines joined."""
    text = page.read_text(encoding="utf-8")
    for kind, block in re.findall(r"```(\w*)\n(.*?)```", text, flags=re.DOTALL):
        if kind in ("sh", "bash", ""):
            for line in block.replace("\\\n", " ").splitlines():
                if match := COMMAND.match(line):
                    yield match.group(1)
    for block in re.findall(r"(?:^    .*\n)+", text, flags=re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if match := COMMAND.match(line):
                yield match.group(1)
    yield from (span for span in re.findall(r"`([^`\n]+)`", text) if COMMAND.match(span))


def words(command: str) -> list[str]:
    """A command's words, comments dropped; what stands for the reader's own names is left as a word."""
    return shlex.split(command, comments=True)


def verbs(page: Path) -> list[list[str]]:
    """The arguments of every prx-scale call on a page, also of those under torchrun."""
    found: list[list[str]] = []
    for command in commands(page):
        parts = words(command)
        if "prx_scale" in parts:
            found.append(parts[parts.index("prx_scale") + 1 :])
        elif parts[0] == "prx-scale":
            found.append(parts[1:])
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if verbs(page)], ids=name_of)
def test_commands_are_real(page: Path) -> None:
    for arguments in verbs(page):
        if arguments in (["--help"], []) or "..." in arguments:
            continue
        complaint = io.StringIO()
        with contextlib.redirect_stdout(complaint), contextlib.redirect_stderr(complaint):
            try:
                parse(arguments)
            except SystemExit as end:
                # A verb alone, as in a sentence, names itself: what is refused then is only what it lacks.
                alone = len(arguments) == 1 and "required" in complaint.getvalue().lower()
                assert end.code == 0 or alone, f"{name_of(page)}: {' '.join(arguments)}\n{complaint.getvalue()}"


def make_targets() -> set[str]:
    """The phony targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony
    return set(phony.group(1).split())


def test_make_targets_exist_and_are_explained() -> None:
    targets = make_targets()
    explained = set(re.findall(r"^([a-z-]+):.* ## ", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    assert targets == explained
    for page in PAGES:
        for command in commands(page):
            parts = words(command)
            named = [word for word in parts[1:] if "=" not in word]
            assert parts[0] != "make" or set(named) <= targets, f"{name_of(page)}: {command}"


def test_makefile_allows_the_pythons_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    low, high = re.findall(r"3\.(\d+)", project["requires-python"])
    assert f"(3, {low}) <= sys.version_info[:2] < (3, {high})" in (ROOT / "Makefile").read_text("utf-8")


def documented_keys(table: str) -> dict[str, str]:
    """Key and default of the rows of one table in docs/study-file.md, as written."""
    page = (ROOT / "docs" / "study-file.md").read_text("utf-8")
    section = page.split(f"### `[{table}]`", 1)[1].split("\n### ", 1)[0]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|", section, flags=re.MULTILINE)
    return dict(rows)


def written_default(item: dataclasses.Field[Any]) -> str:
    """A field's default as the page writes it."""
    if item.default is dataclasses.MISSING:
        return "required"
    value: Any = list(item.default) if isinstance(item.default, tuple) else item.default
    return f"`{json.dumps(value)}`"


STUDY_TABLES: dict[str, type[Any]] = {
    "study": study.StudyTable,
    **study.RUN_TABLES,
    "[stage]": Stage,
    "[stage.data]": Source,
    "fit": study.FitTable,
    "slurm": SlurmTable,
}


@pytest.mark.parametrize("table", STUDY_TABLES)
def test_every_key_of_the_study_file_is_described(table: str) -> None:
    fields = dataclasses.fields(STUDY_TABLES[table])
    assert documented_keys(table) == {item.name: written_default(item) for item in fields}


def test_every_option_that_is_passed_through_to_sbatch_is_listed() -> None:
    section = (ROOT / "docs" / "study-file.md").read_text("utf-8").split("### `[slurm]`", 1)[1]
    passed = section.split("Passed through to sbatch as they are: ", 1)[1].split(". A list", 1)[0]
    assert tuple(re.findall(r"`(\w+)`", passed)) == PASSED_THROUGH


@pytest.mark.parametrize("table", STUDY_TABLES)
def test_every_choice_and_bound_of_the_study_file_is_described(table: str) -> None:
    page = (ROOT / "docs" / "study-file.md").read_text("utf-8").split(f"### `[{table}]`", 1)[1].split("\n### ", 1)[0]
    kinds = tables.field_types(STUDY_TABLES[table])
    for item in dataclasses.fields(STUDY_TABLES[table]):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{item.name}` |"))
        if typing.get_origin(kinds[item.name]) is typing.Literal:
            assert all(f"`{json.dumps(choice)}`" in row for choice in typing.get_args(kinds[item.name])), row
        low, high = item.metadata.get("low"), item.metadata.get("high")
        if high is not None:
            assert f", {low} to {high} |" in row
        elif low is not None:
            assert f", at least {low:g} |" in row


def test_every_column_of_the_run_record_is_described() -> None:
    page = (ROOT / "docs" / "run-record.md").read_text("utf-8")
    sections = {"run.json": RunInfo, "train.jsonl": TrainRow, "validation.jsonl": ValidationRow}
    sections["evaluation.jsonl"] = EvaluationRow
    for heading, record in sections.items():
        section = page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
        missing = [f.name for f in dataclasses.fields(record) if f.name != "folder" and f"`{f.name}`" not in section]
        assert not missing, f"{heading}: {missing}"
    for table in TABLES:
        missing = [name for name in frame_schema(table) if f"`{name}`" not in page]
        assert not missing, f"columns of load(..., '{table}'): {missing}"


def test_fitting_page_names_every_law() -> None:
    page = (ROOT / "docs" / "fitting.md").read_text("utf-8")
    assert not [name for name in LAWS if f"`{name}`" not in page]


def test_inputs_page_names_every_column_and_kind_of_file() -> None:
    page = (ROOT / "docs" / "inputs.md").read_text("utf-8")
    synonyms = (name for names in sources.SYNONYMS.values() for name in names)
    names = (*sources.SYNONYMS, *sources.ALIASES, *synonyms, *sources.READERS)
    assert not [name for name in names if f"`{name}`" not in page]


def test_example_study_resolves() -> None:
    example = study.load(ROOT / "examples" / "study.toml", Path("unused"))
    assert {run.model.depth for run in example.runs if run.variant == "base"} == {1, 2, 3}
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md"))
    shown = set(re.findall(r"\bd\d+-[\w-]*s\d+-[0-9a-f]{8}\b", pages))
    assert shown and shown <= {run.id for run in example.runs}
    for page in (ROOT / "docs").glob("*.md"):
        for arguments in verbs(page):
            if "examples/study.toml" in arguments and "--run" in arguments:
                assert example.run(arguments[arguments.index("--run") + 1])


def test_the_fit_pasted_in_the_readme_is_what_comes_out() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    pasted = {name: float(value) for name, value in re.findall(r"^(E|A|B|alpha|beta) +([\d.]+) ", readme, flags=re.M)}
    table = ROOT / "examples" / "overtraining" / "overtraining_c4_val.csv"
    loaded = sources.load([table], where=["train_set=rpj", "flops<5e20"])
    result = fit(loaded.points, bootstrap=0, predict=[(6.89e9, 137.8e9)], flops_per=6.0)
    assert pasted == pytest.approx({name: each.value for name, each in result.parameters.items()}, rel=1e-3)
    assert f"{result.predictions[0].loss:.3f}"[:4] in readme


def test_numbers_of_the_study_of_rates_are_those_of_its_table() -> None:
    with (ROOT / "examples" / "mup" / "losses.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    runs_of = study.load(ROOT / "examples" / "mup" / "study.toml", Path("unused")).runs
    assert {row["run"] for row in rows} == {run.id for run in runs_of}
    page = (ROOT / "examples" / "mup" / "README.md").read_text("utf-8")
    for base, width in ((0, 64), (0, 128), (0, 256), (64, 128), (64, 256)):
        own = [row for row in rows if (int(row["mup_base_width"]), int(row["width"])) == (base, width)]
        columns = ([float(row[name]) for row in own] for name in ("lr", "loss_ema"))
        best = optimum(*columns, [int(row["seed"]) for row in own])
        assert f"{best.value:.4f}, ± {best.stderr_octaves:.2f}" in page

"""The command line: verbs with help and examples, quick start-up, and bad input without a traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from prx_scale.commands.sweep import plan_table
from prx_scale.commands.text import counted, number
from prx_scale.runs.info import State
from prx_scale.runs.record import RunRecord
from prx_scale.study import load
from slurm.plan import plan
from tests.prx_scale.runs.records import make_info, train_row

VERBS = (
    "quickstart",
    "train",
    "sweep",
    "status",
    "logs",
    "cancel",
    "evaluate",
    "export",
    "import-weights",
    "fit",
    "backtest",
    "correlate",
    "report",
)
STUDY = '[study]\nname = "s"\n[model]\ndepth = [1, 2]\npatch = 4\n[training]\nsteps = 100\n'


def prx(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prx_scale", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    done = prx(verb, "--help")
    assert done.returncode == 0
    assert f"prx-scale {verb}" in done.stdout.split("usage:", 1)[1].split("\n", 1)[1]


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['prx-scale', 'fit', '--help']\nfrom prx_scale.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'torchtitan', 'altair', 'scipy', 'polars', 'numpy'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    # Processor time, not the clock: the machine may be busy. Best of three, as caches may be cold.
    assert min(_cpu_seconds("--help") for _ in range(3)) < 0.5


def _cpu_seconds(*words: str) -> float:
    command = [sys.executable, "-m", "prx_scale", *words]
    code = (
        f"import resource, subprocess\nsubprocess.run({command!r}, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\nprint(used.ru_utime + used.ru_stime)"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("words", [("--help",), ("fit", "--help")])
def test_help_that_nobody_reads_to_its_end_leaves_no_traceback(words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "prx_scale", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_a_mistyped_verb_exits_with_2() -> None:
    done = prx("trian")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[data]\nsede = 1\n", "did you mean 'seed'?"),
        ("[validation]\nevery = [1, 2]\n", "a list cannot be swept here"),
        ("[data]\nseed = 'x'\n", "expected a whole number, found 'x'"),
    ],
)
def test_bad_study_exits_with_2_and_names_the_key(change: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(STUDY + change)
    for verb in ("train", "sweep"):
        done = prx(verb, file)
        assert done.returncode == 2
        assert message in done.stderr
        assert "bad.toml" in done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.toml"]


@pytest.mark.parametrize("verb", ["status", "report", "evaluate"])
def test_empty_study_exits_with_2(verb: str, tmp_path: Path) -> None:
    done = prx(verb, tmp_path)
    assert done.returncode == 2
    assert "no runs here" in done.stderr


def test_dry_run_prints_derived_numbers_and_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(STUDY)
    done = prx("sweep", file, "--dry-run")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("d")]
    assert [line.split()[1:3] for line in lines] == [["1", "64"], ["2", "128"]]
    assert all(line.rstrip().endswith("start") for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.toml"]


def test_without_slurm_a_sweep_there_is_refused_and_its_dry_run_is_not(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(STUDY + "[slurm]\nnodes = 1\ntime = 10\n")
    environment = {"PATH": str(tmp_path)}
    done = prx("sweep", file, "--executor", "slurm", **environment)
    assert done.returncode == 2
    assert "no sbatch on this machine" in done.stderr
    assert prx("sweep", file, "--executor", "slurm", "--dry-run=scheduler", **environment).returncode == 2
    dry = prx("sweep", file, "--executor", "slurm", "--dry-run", **environment)
    assert dry.returncode == 0, dry.stderr
    assert "SLURM does not answer here" in dry.stdout and "#SBATCH --time=10" in dry.stdout
    assert list(tmp_path.iterdir()) == [file]
    assert prx("sweep", file, "--dry-run=scheduler").returncode == 2


def test_status_as_table_and_json(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "runs" / "d1-s0-00000000")
    record.write(make_info(state=State.FAILED, reason="the training loss was not finite at step 7", last_good_step=6))
    record.append(train_row(6))
    table = prx("status", tmp_path)
    assert table.returncode == 0
    assert "d1-s0-00000000" in table.stdout
    assert "not finite at step 7" in table.stdout
    assert "1 run failed: loss not finite" in table.stdout
    status = json.loads(prx("status", tmp_path, "--json").stdout)
    (row,), (failure,) = status["runs"], status["failures"]
    assert (failure["cause"], failure["runs"]) == ("loss not finite", ["d1-s0-00000000"])
    assert (row["run"], row["state"], row["step"], row["loss"]) == ("d1-s0-00000000", "failed", 6, 0.5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (64, "64"),
        (9999, "9999"),
        (10_000, "10.0k"),
        (107_184, "107k"),
        (999_499, "999k"),
        (999_999, "1.00M"),
        (1e9, "1.00G"),
        (4.98e9, "4.98G"),
        (2.5e12, "2.50T"),
        (1.389e22, "1.39e+22"),
    ],
)
def test_numbers_for_people(value: float, expected: str) -> None:
    assert number(value) == expected


def test_counts_for_people() -> None:
    assert counted(1, "shard") == "1 shard" and counted(1200, "shard") == "1,200 shards"


def test_a_narrow_terminal_still_shows_what_a_launch_does(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(STUDY)
    study = load(tmp_path / "s.toml")
    for width, headings in ((80, 7), (100, 10)):
        shown = io.StringIO()
        console = Console(width=width, file=shown, highlight=False)
        console.print(plan_table(plan(study.runs, study.folder), width))
        lines = shown.getvalue().splitlines()
        assert len(lines[0].split()) == headings and len(lines) == 1 + len(study.runs)
        assert "…" not in "".join(lines) and all(line.rstrip().endswith("start") for line in lines[1:])

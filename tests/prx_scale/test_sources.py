"""Reading points: column names, filters, units, studies, and every way a table can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prx_scale import sources
from prx_scale.errors import InputError
from prx_scale.runs.info import Parameters, RunInfo, State
from prx_scale.runs.record import RunRecord
from prx_scale.runs.rows import ValidationRow

COLUMNS = {
    "n_params": [1e8, 2e8, 4e8],
    "tokens": [1e9, 2e9, 4e9],
    "val_loss": [3.0, 2.8, 2.6],
    "run_id": ["a", "b", "b"],
}


@pytest.fixture
def table(tmp_path: Path):
    def write(name: str = "runs.csv", **changes: list) -> Path:
        frame = pl.DataFrame(
            {key: value for key, value in {**COLUMNS, **changes}.items() if value is not None}, strict=False
        )
        path = tmp_path / name
        {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}[path.suffix](path)
        return path

    return write


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_every_format_gives_the_same_points(name, table):
    loaded = sources.load([table(name)])
    assert loaded.points.params.tolist() == COLUMNS["n_params"]
    assert loaded.points.loss.tolist() == COLUMNS["val_loss"]
    assert loaded.points.cluster is not None and loaded.points.cluster.tolist() == ["a", "b", "b"]
    assert loaded.provenance.columns == {
        "params": "n_params",
        "data": "tokens",
        "loss": "val_loss",
        "cluster": "run_id",
    }
    assert (loaded.provenance.data_unit, loaded.provenance.flops_per) == ("tokens", 6.0)


def test_samples_have_no_assumed_cost(table):
    loaded = sources.load([table(tokens=None, samples=[1e6, 2e6, 3e6])])
    assert (loaded.provenance.data_unit, loaded.provenance.flops_per) == ("samples", None)


def test_named_columns_win_over_guesses(table):
    path = table(**{"val/loss": [1.0, 1.1, 1.2]})
    assert sources.load([path]).points.loss.tolist() == COLUMNS["val_loss"]
    assert sources.load([path], {"loss": "val/loss"}).points.loss.tolist() == [1.0, 1.1, 1.2]
    assert sources.load([path], cluster="row").points.cluster is None
    assert sources.load([path], cluster="tokens").provenance.cluster == "tokens"


def test_data_follow_from_compute(table):
    loaded = sources.load([table(tokens=None, flops=[6e17, 1.2e18, 2.4e18])])
    assert loaded.points.data.tolist() == [1e9, 1e9, 1e9]
    assert "6 params" in loaded.notices[0]
    assert loaded.provenance.data_unit == "tokens"


def test_compute_beyond_64_bit_integers(tmp_path):
    path = tmp_path / "big.csv"
    path.write_text("params,tokens,flops,loss\n100,200,120000,3\n6889410560,137788211200,5695677343708741632000,2.4\n")
    assert sources.load([path]).points.flops[1] == pytest.approx(5.695677343708741e21)


@pytest.mark.parametrize(
    ("where", "left"),
    [
        (["ok=true"], 2),
        (["ok=True"], 2),
        (["split=heldout"], 2),
        (["split!=heldout"], 1),
        (["n_params>=2e8"], 2),
        (["n_params = 200000000"], 1),
        (["n_params<4e8", "ok=true"], 1),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_filters(where, left, name, table):
    path = table(name, ok=[True, False, True], split=["heldout", "train", "heldout"])
    loaded = sources.load([path], where=where)
    assert loaded.points.n == left
    assert (loaded.provenance.n_rows, loaded.provenance.n_used) == (3, left)
    assert sum(count for _, count in loaded.provenance.dropped) == 3 - left


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"val_loss": ["3", "oops", "2"]}, {}, r"runs.csv, row 3: column 'val_loss' is 'oops', not a number"),
        ({"val_loss": [3.0, None, 2.0]}, {}, "row 3: column 'val_loss' is empty"),
        ({"val_loss": [3.0, 2.0, -1.0]}, {}, "row 4: column 'val_loss' is -1.0, and loss must be finite and positive"),
        ({"val_loss": ["nan", "2", "1"]}, {}, "row 2: column 'val_loss' is nan"),
        ({"n_params": [0.0, 1.0, 2.0]}, {}, "row 2: column 'n_params' is 0.0, and params must be"),
        ({"tokens": ["inf", "2", "1"]}, {}, "data must be finite"),
        ({"tokens": ["1,000", "2", "1"]}, {}, "'1,000', not a number"),
        ({"val_loss": None, "los": [1.0, 1.0, 1.0]}, {}, "no column for loss .* did you mean 'los'"),
        ({"tokens": None, "n_params": None}, {}, "no column for params .* no column for data"),
        ({}, {"columns": {"params": "n_parms"}}, "no column 'n_parms' .* did you mean 'n_params'"),
        ({}, {"columns": {"parms": "n_params"}}, "'parms' is not a column of a fit; did you mean 'params'"),
        ({}, {"cluster": "rnu_id"}, "--cluster rnu_id.* did you mean 'run_id'"),
        ({}, {"where": ["run_id=c"]}, "no rows left after --where run_id=c; 'run_id' holds a, b"),
        ({}, {"where": ["run=a"]}, "no column 'run'; did you mean 'run_id'"),
        ({}, {"where": ["run_id"]}, "expected a condition"),
        ({}, {"where": ["run_id>=b"]}, "compares numbers"),
    ],
)
def test_bad_tables_and_options(changes, options, words, table):
    with pytest.raises(InputError, match=words):
        sources.load([table(**changes)], **options)


def test_bad_files(tmp_path):
    empty, header, text, torn = (tmp_path / name for name in ("e.csv", "h.csv", "t.txt", "j.jsonl"))
    empty.touch()
    header.write_text("params,loss\n")
    text.write_text("hello")
    torn.write_text('{"params": 1, "lo')
    for path, words in (
        (tmp_path / "no.csv", "no such file"),
        (empty, "the file is empty"),
        (header, "a header and no rows"),
        (text, r"cannot read '.txt'; valid: .csv, .parquet, .jsonl"),
        (torn, "not a readable jsonl file"),
    ):
        with pytest.raises(InputError, match=words):
            sources.load([path])
    with pytest.raises(InputError, match="no source"):
        sources.load([])


def test_columns_option():
    assert sources.parse_columns(["params=n,loss=val/loss", "data=d"]) == {
        "params": "n",
        "loss": "val/loss",
        "data": "d",
    }
    with pytest.raises(InputError, match="KEY=COLUMN"):
        sources.parse_columns(["params"])


def test_files_are_joined_and_runs_kept_apart(table):
    first, second = table("a.csv"), table("b.jsonl")
    points = sources.load([first, second]).points
    assert (points.n, points.n_clusters) == (6, 4)
    with pytest.raises(InputError, match="count data differently"):
        sources.load([first, table("c.csv", tokens=None, samples=[1.0, 2.0, 3.0])])


def write_run(study: Path, depth: int, seed: int, *, state: State = State.DONE, variant: str = "base") -> None:
    now = "2026-01-01T00:00:00+00:00"
    name = f"d{depth}-s{seed}-{variant}"
    record = RunRecord(study / "runs" / name)
    info = RunInfo(
        run=name, study="s", variant=variant, state=state, config={}, depth=depth, seed=seed,
        parameters=Parameters(backbone=10_000 * depth**3, embedding=500), flops_per_sample=10**6 * depth**3,
        tokens_per_sample=64, versions={}, device="cpu", world_size=1, steps=400, created=now, updated=now, step=400,
        last_good_step=300 if state is State.FAILED else None,
    )  # fmt: skip
    record.write(info)
    for step in range(50, 401, 50):
        for weights in ("raw", "ema"):
            samples = 64 * step
            loss = 0.25 + 3 * info.parameters.backbone**-0.3 + 2 * samples**-0.4 * (1.0 + 0.01 * seed)
            record.append(
                ValidationRow(
                    step=step,
                    samples=samples,
                    tokens=64 * samples,
                    flops=float(samples * info.flops_per_sample),
                    weights=weights,
                    split="heldout",
                    loss=loss,
                    levels=[0.5],
                    loss_per_level=[loss],
                    n=64,
                )
            )


def test_a_study_gives_its_warm_ema_rows(tmp_path):
    for depth in (1, 2, 3):
        write_run(tmp_path, depth, 0)
    write_run(tmp_path, 2, 1, state=State.FAILED)
    loaded = sources.load([tmp_path])
    # steps 100 to 400 of the three sound runs, EMA only; the failed one has 6 steps up to its last good one
    assert loaded.points.n == 3 * 7
    assert loaded.points.n_clusters == 3
    assert loaded.provenance.data_unit == "samples"
    assert loaded.points.flops is not None
    assert np.unique(loaded.points.params).tolist() == [10_000, 80_000, 270_000]
    assert dict(loaded.provenance.dropped) == {
        "run failed": 12,
        "weights are not ema": 24,
        "before 25% of the run": 3,
    }
    raw = sources.load([tmp_path], where=["weights=raw", "depth<3"])
    assert raw.points.n == 2 * 7
    failed = sources.load([tmp_path], where=["state=failed"])
    assert failed.points.n == 5


def test_a_study_leaves_its_held_out_variants_alone(tmp_path):
    (tmp_path / "study.toml").write_text(
        '[study]\nname = "s"\n[model]\ndepth = [1, 2]\n[training]\nsteps = 400\n'
        '[fit]\nholdout = ["large"]\nfrom_fraction = 0.5\nlevel = 0.9\n'
        '[[variant]]\nname = "large"\nmodel = { depth = 4 }\n'
    )
    for depth in (1, 2):
        write_run(tmp_path, depth, 0)
    write_run(tmp_path, 4, 0, variant="large")
    loaded = sources.load([tmp_path])
    assert loaded.points.n == 2 * 5
    assert loaded.fit is not None and loaded.fit.level == 0.9
    assert ("held-out variant", 16) in loaded.provenance.dropped


def test_a_study_without_rows_says_why(tmp_path):
    write_run(tmp_path, 1, 0)
    with pytest.raises(InputError, match="no rows left after --where split=test"):
        sources.load([tmp_path], where=["split=test"])
    for file in (tmp_path / "runs").glob("*/validation.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows if row["weights"] == "raw"))
    with pytest.raises(InputError, match="weights are not ema"):
        sources.load([tmp_path])

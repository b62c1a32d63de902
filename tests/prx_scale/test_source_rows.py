"""Rows that are wrong or too many: named, dropped only when told, thinned, joined to a table of runs, grouped."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prx_scale import sources
from prx_scale.errors import InputError

GOOD = "run,params,tokens,loss\na,1,10,3\na,1,20,2\nb,2,10,2.5\nb,2,20,1.5\n"


def write(folder: Path, text: str, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_all_bad_rows_are_named_up_to_ten(tmp_path: Path) -> None:
    rows = ["a,1,10,oops", "a,,20,2", "a,1,inf,3"] + ["a,1,30,-1"] * 12 + ["b,2,10,2"] * 5
    path = write(tmp_path, "run,params,tokens,loss\n" + "\n".join(rows) + "\n")
    with pytest.raises(InputError) as caught:
        sources.load([path])
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 15 of 20 rows cannot be used:"
    assert lines[1] == f"  {path}, row 2: column 'loss' is 'oops', not a number"
    assert lines[2] == f"  {path}, row 3: column 'params' is empty"
    assert lines[3] == f"  {path}, row 4: column 'tokens' is inf, and data must be finite and positive"
    assert len([line for line in lines if ", row " in line]) == 10
    assert "15 in all" in lines[-2] and "--drop-bad-rows" in lines[-1]


def test_bad_rows_are_dropped_and_counted_when_told(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "c,3,10,nan\nc,x,20,1\n")
    loaded = sources.load([path], drop_bad_rows=True)
    assert loaded.points.n == 4
    assert loaded.provenance.dropped == (("bad value", 2),)
    assert (loaded.provenance.n_rows, loaded.provenance.n_used) == (6, 4)
    with pytest.raises(InputError, match="no rows left"):
        sources.load([write(tmp_path, "params,loss\n1,x\n")], drop_bad_rows=True)


def test_a_repeated_step_is_told_and_dropped_only_when_told(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "a,1,20,1.9\n")
    kept = sources.load([path])
    assert kept.points.n == 5 and "1 rows repeat a step of their run, such as of run 'a'" in kept.notices[0]
    dropped = sources.load([path], drop_bad_rows=True)
    assert dropped.points.loss.tolist() == [3.0, 2.5, 1.5, 1.9]  # the later row of the two
    assert dropped.provenance.dropped == (("same run and step again later", 1),)
    assert sources.load([path], cluster="row").notices == ()


def big(folder: Path, runs: int = 4, rows: int = 500) -> Path:
    """A table in which run i has rows at data 1 to ``rows``, in shuffled order."""
    frame = pl.DataFrame(
        {
            "run": [f"r{i}" for i in range(runs) for _ in range(rows)],
            "params": [float(i + 1) for i in range(runs) for _ in range(rows)],
            "tokens": [float(d + 1) for _ in range(runs) for d in range(rows)],
            "loss": [1.0 + 1.0 / (d + 1) for _ in range(runs) for d in range(rows)],
        }
    )
    frame.sample(fraction=1.0, shuffle=True, seed=0).write_parquet(folder / "big.parquet")
    return folder / "big.parquet"


def test_thinning_is_even_in_log_data_and_keeps_the_last_row(tmp_path: Path) -> None:
    loaded = sources.load([big(tmp_path)], thin=10)
    points = loaded.points
    assert points.data is not None and points.cluster is not None
    for run in ("r0", "r3"):
        data = np.sort(points.data[points.cluster == run])
        assert 8 <= len(data) <= 10 and data[-1] == 500
        assert np.diff(np.log(data)).max() < 2 * np.log(500) / 10
    assert loaded.provenance.dropped == (("thinned to 10 a run", 2000 - points.n),)
    assert sources.load([big(tmp_path)], thin=10_000).points.n == 2000


def test_the_last_row_of_every_run(tmp_path: Path) -> None:
    points = sources.load([big(tmp_path)], thin=1).points
    assert points.data is not None and points.data.tolist() == [500.0] * 4
    assert points.n_clusters == 4


def test_thinning_needs_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name it with --cluster"):
        sources.load([write(tmp_path, GOOD)], cluster="row", thin=2)
    with pytest.raises(InputError, match="--thin 0"):
        sources.load([write(tmp_path, GOOD)], thin=0)


def test_a_table_of_runs_is_joined_by_name(tmp_path: Path) -> None:
    log = write(tmp_path, "run,step,loss\na,100,3\na,200,2\nb,100,2.5\n")
    table = write(tmp_path, "Name,n_params,tokens_per_step\nb,2B,1000\na,1B,500\n", "table.csv")
    loaded = sources.load([log], {"tokens": "step*tokens_per_step"}, runs_table=table)
    assert loaded.points.params is not None and loaded.points.data is not None
    assert loaded.points.params.tolist() == [1e9, 1e9, 2e9]
    assert loaded.points.data.tolist() == [50_000.0, 100_000.0, 100_000.0]


@pytest.mark.parametrize(
    ("log", "table", "words"),
    [
        ("run,loss\na,3\nc,2\n", "run,params\na,1\n", "has no row for 1 runs of .*: c. It holds a"),
        ("run,loss\na,3\n", "run,params\na,1\na,2\n", "run 'a' has 2 rows; give one row a run"),
        ("run,loss\na,3\n", "model,params\na,1\n", "no column of run names"),
        ("step,loss\n1,3\n", "run,params\na,1\n", "needs a column that names the run"),
    ],
)
def test_bad_tables_of_runs(log: str, table: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        sources.load([write(tmp_path, log)], runs_table=write(tmp_path, table, "table.csv"))


def test_groups_split_the_points(tmp_path: Path) -> None:
    text = "set,split,params,loss\nx,a,1,3\ny,a,2,2\nx,b,3,1\n"
    loaded = sources.load([write(tmp_path, text)], by=["set", "split"])
    groups = {tuple(values.items()): group.points.loss.tolist() for values, group in loaded.groups()}
    assert groups == {
        (("set", "x"), ("split", "a")): [3.0],
        (("set", "x"), ("split", "b")): [1.0],
        (("set", "y"), ("split", "a")): [2.0],
    }
    first = loaded.groups()[0][1].provenance
    assert (first.n_used, first.dropped) == (1, (("not set=x and split=a", 2),))
    with pytest.raises(InputError, match="--by sett: no column 'sett'; did you mean 'set'"):
        sources.load([write(tmp_path, text)], by=["sett"])


def test_patterns_and_compressed_files(tmp_path: Path) -> None:
    for run in "ab":
        with gzip.open(tmp_path / f"{run}.csv.gz", "wt") as file:
            file.write("params,tokens,loss\n1,10,3\n1,20,2\n")
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write('{"params": 1, "tokens": 10, "loss": 3}\n')
    loaded = sources.load([str(tmp_path / "*.csv.gz")], cluster="file")
    assert (loaded.points.n, loaded.points.n_clusters) == (4, 2)
    assert loaded.provenance.cluster == "file"
    assert sources.load([str(tmp_path / "*.gz")]).points.cluster is None
    with pytest.raises(InputError, match="no file matches this pattern"):
        sources.load([str(tmp_path / "*.parquet")])


def test_only_the_needed_columns_are_read(tmp_path: Path) -> None:
    # A column that cannot be read as its schema says fails only a reader that touches it.
    path = write(
        tmp_path, "".join(f'{{"params": {i + 1}, "loss": {i + 1}, "note": "n"}}\n' for i in range(3)), "a.jsonl"
    )
    sheet = sources.tables.open_table(path)
    assert sheet.names == ("params", "loss", "note")
    assert sheet.collect(["loss"]).columns == ["__line__", "loss"]

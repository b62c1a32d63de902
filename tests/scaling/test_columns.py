"""Points from frames: the columns that the command line would take, whatever kind of frame."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prx_scale import sources
from scaling import FitInputError, FitResult, Points, fit, points_from
from scaling.columns import gather

EXAMPLE = Path(__file__).parents[2] / "examples" / "overtraining" / "overtraining_c4_val.csv"


def example_frame() -> pl.DataFrame:
    return pl.read_csv(EXAMPLE).filter(pl.col("train_set") == "rpj")


def test_a_frame_gives_the_fit_of_the_command_line() -> None:
    loaded = sources.load([EXAMPLE], where=["train_set=rpj"])
    k = loaded.provenance.flops_per
    expected = fit(loaded.points, bootstrap=30, provenance=loaded.provenance, flops_per=k)
    got = fit(example_frame(), bootstrap=30)
    assert got.parameters == expected.parameters
    assert np.array_equal(got.draws, expected.draws)
    assert got.n_clusters == expected.n_clusters == 35
    assert got.provenance.columns == expected.provenance.columns
    assert got.provenance.data_unit == "tokens"


def test_every_kind_of_frame_gives_the_same_points() -> None:
    frame = example_frame()
    expected = points_from(frame)
    kinds = [frame.to_dict(as_series=False), frame.to_dict()]
    pandas = pytest.importorskip("pandas")
    kinds.append(pandas.DataFrame(frame.to_dict(as_series=False)))
    for kind in kinds:
        got = points_from(kind)
        for name, values in vars(expected).items():
            assert (values is None) == (getattr(got, name) is None)
            assert values is None or np.array_equal(values, getattr(got, name))


def test_columns_and_clusters_can_be_named() -> None:
    frame = example_frame().rename({"loss": "c4", "run": "model"})
    points = points_from(frame, columns={"loss": "c4"}, cluster="model")
    assert points.n_clusters == 35
    assert points_from(frame, columns={"loss": "c4"}).cluster is None
    assert points_from(example_frame(), cluster="row").cluster is None
    by_set = points_from(example_frame(), cluster="train_set")
    assert by_set.n_clusters == 1


def test_data_follow_from_compute_where_they_are_missing() -> None:
    frame = example_frame()
    gathered = gather(frame.drop("tokens"))
    assert gathered.data_unit == "tokens" and gathered.flops_per == 6.0
    assert gathered.points.need("data") == pytest.approx(frame["tokens"].to_numpy(), rel=1e-12)
    assert gather({"samples": [1.0], "loss": [1.0]}).flops_per is None


def test_a_guess_that_holds_no_numbers_is_let_go_and_a_choice_is_not() -> None:
    table = {"loss": [1.0, 2.0], "N": [1e6, 2e6], "std": ["a", "b"], "step": [0, 100]}
    points = points_from(table)
    assert points.stderr is None and points.steps is None
    with pytest.raises(FitInputError, match="'std' \\(stderr\\) holds other than numbers"):
        points_from(table, columns={"stderr": "std"})


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        ("runs.csv", {}, "prx_scale.sources.load"),
        ([1.0, 2.0], {}, "cannot fit list"),
        ({"N": [1.0]}, {}, "no column of losses"),
        ({"loss": [1.0]}, {"columns": {"los": "loss"}}, "'los' is not a column of a fit"),
        ({"val_loss": [1.0]}, {"columns": {"loss": "valloss"}}, "did you mean 'val_loss'"),
        ({"loss": [1.0]}, {"cluster": "run"}, "cluster is to be 'run', which the table lacks"),
        ({"loss": ["x"]}, {}, "holds other than numbers"),
        ({"loss": [1.0, None]}, {}, r"loss\[1\] is nan"),
    ],
)
def test_bad_tables_are_refused(table: object, options: dict[str, object], words: str) -> None:
    with pytest.raises(FitInputError, match=words):
        points_from(table, **options)  # type: ignore[arg-type]


def test_points_are_not_read_a_second_time() -> None:
    for options in ({"columns": {"loss": "c4"}}, {"cluster": "row"}):
        with pytest.raises(FitInputError, match="Points have theirs"):
            fit(points_from(example_frame()), bootstrap=0, **options)  # type: ignore[arg-type]


def test_a_result_keeps_its_points_through_json() -> None:
    result = fit(example_frame(), bootstrap=10)
    again = FitResult.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False)))
    kept = again.known_points()
    for name, values in vars(result.known_points()).items():
        assert values is None or np.array_equal(values, getattr(kept, name))
    first, second = (each.backtest(bootstrap=0, max_cuts=3) for each in (result, again))
    assert first.to_json() == second.to_json()
    assert [each.law for each in first.standings] == ["chinchilla", "power_floor:flops"]


def test_points_of_large_fits_stay_out_of_the_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.results_json.MAX_STORED_ROWS", 34)
    again = FitResult.from_json(fit(example_frame(), bootstrap=0).to_json())
    assert again.points is None
    for ask in (again.backtest, again.plot):
        with pytest.raises(FitInputError, match="does not hold its points"):
            ask()


def test_repr_is_what_the_command_line_prints(capsys: pytest.CaptureFixture[str]) -> None:
    from prx_scale.commands.fit_output import print_fit

    result = fit(example_frame(), bootstrap=20, predict=[(6.89e9, 137.8e9), (1e9, 1e13)])
    print_fit(result, ())
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert repr(result).splitlines() == printed


def test_html_escapes_what_came_from_the_points() -> None:
    columns = {"loss": "<b>loss</b>", "params": "N", "data": "D"}
    frame = example_frame().rename({"loss": "<b>loss</b>", "params": "N", "tokens": "D"})
    shown = fit(frame, bootstrap=0, columns=columns)._repr_html_()
    assert "<b>loss</b>" not in shown and "&lt;b&gt;loss&lt;/b&gt;" in shown
    assert "0.243084" in shown


@pytest.mark.parametrize("kind", ["fit", "residuals", "frontier"])
def test_charts_of_a_fit_are_valid(kind: str) -> None:
    spec = fit(example_frame(), bootstrap=5).plot(kind).to_dict()  # type: ignore[arg-type]
    assert spec["config"]["background"] == "white"
    assert len(spec["layer"]) == {"fit": 4, "residuals": 2, "frontier": 2}[kind]


def test_charts_that_cannot_be_are_refused() -> None:
    points = Points(loss=np.array([3.0, 2.5, 2.2, 2.1]), flops=np.array([1e18, 1e19, 1e20, 1e21]))
    result = fit(points, law="power_floor:flops", bootstrap=0)
    assert len(result.plot().to_dict()["layer"]) == 3
    with pytest.raises(FitInputError, match="no frontier"):
        result.plot("frontier")
    with pytest.raises(FitInputError, match="no chart is called 'map'"):
        result.plot("map")  # type: ignore[arg-type]

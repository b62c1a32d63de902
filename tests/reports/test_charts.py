"""Charts are valid Vega-Lite, share the colour of a depth and put round numbers on logarithmic axes."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.charts import base, evaluation, prediction, training
from scaling.plots import axes, charts


def test_log_ticks_are_round_and_few() -> None:
    assert axes.log_ticks([1e12, 9e12]) == [1e12, 2e12, 5e12, 1e13]
    assert axes.log_ticks([3e9, 4e15]) == [10.0**e for e in range(10, 16)]
    assert axes.log_ticks([]) == []


@given(st.lists(st.floats(min_value=1e-6, max_value=1e24), min_size=1, max_size=6))
def test_log_axis_always_has_a_tick(values: list[float]) -> None:
    ticks = axes.log_ticks(values)
    assert 1 <= len(ticks) <= 8
    low, high = axes.log_domain(values)
    assert low < min(values) and high > max(values)
    assert all(low <= tick <= high for tick in ticks)


def test_thin_keeps_the_last_row_of_every_series() -> None:
    frame = pl.DataFrame({"run": ["a"] * 1000 + ["b"] * 5, "step": [*range(1000), *range(5)]})
    thinned = base.thin(frame, ["run"], most=100)
    assert len(thinned.filter(pl.col("run") == "a")) == pytest.approx(100, abs=2)
    assert thinned.filter(pl.col("run") == "a")["step"].max() == 999
    assert len(thinned.filter(pl.col("run") == "b")) == 5


def _losses() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "run": ["a", "a", "b"],
            "depth": [1, 1, 3],
            "seed": [0, 0, 0],
            "weights": ["ema", "raw", "ema"],
            "step": [10, 10, 10],
            "flops": [1e12, 1e12, 3e13],
            "loss": [0.4, 0.42, 0.3],
            "value": [0.2, 0.2, 0.6],
            "low": [0.1, 0.1, 0.5],
            "high": [0.3, 0.3, 0.7],
        }
    )


def test_charts_are_responsive_and_valid() -> None:
    frame, depths = _losses(), [1, 2, 3]
    errors = frame.select("run", "depth", "low", "high", predicted="loss", measured="loss", error="value")
    errors = errors.with_columns(role=pl.lit("in the fit"), label=pl.col("run"))
    drawn = [
        training.loss_against_steps(frame, depths),
        training.loss_against_compute(frame, depths, pl.DataFrame({"flops": [1e12, 3e13], "loss": [0.4, 0.3]})),
        evaluation.loss_against_geneval(frame, depths),
        prediction.predicted_against_measured(errors, depths),
        prediction.prediction_errors(errors, depths),
    ]
    for chart in drawn:
        spec = chart.to_dict()
        assert spec["width"] == "container"
        assert '"domain": ["1", "2", "3"]' in str(spec).replace("'", '"')


def test_frontier_needs_no_depth() -> None:
    frame = pl.DataFrame({"flops": [1e18, 1e20], "quantity": ["params", "tokens"], "value": [1e8, 1e10]})
    assert charts.frontier(frame, "tokens", 1e19).to_dict()["width"] == "container"

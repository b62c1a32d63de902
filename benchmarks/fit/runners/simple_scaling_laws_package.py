"""PyPI's simple-scaling-laws: least squares on the loss itself, and a wild bootstrap of residuals.

It has no robust loss, so its objective is another one than that of the table. Every row is a run of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import common
import numpy as np
import polars as pl
import simple_scaling_laws

PARAMS, DATA, TARGET = "model_size__params", "dataset_size__tokens", "test_loss__validation"


def _task(table: common.Table, draws: int) -> Callable[[], common.Done]:
    frame = pl.DataFrame(
        {
            "training_run_id": [str(i) for i in range(len(table.loss))],
            "test_set_id": ["validation"] * len(table.loss),
            PARAMS: table.params,
            DATA: table.data,
            TARGET: table.loss,
        }
    )
    simple_scaling_laws.fit(frame, n_draws=1, seed=0)  # imports inside the first call are nobody's

    def work() -> common.Done:
        model = simple_scaling_laws.fit(frame, n_draws=draws, seed=0)
        return common.Done(predict=lambda: _predict(model, table), done=draws, of=draws)

    return work


def _predict(model: Any, table: common.Table) -> np.ndarray:
    """The law at its own estimate; the package's ``predict`` gives quantiles of the draws."""
    p, domain = model.params(TARGET), model.observed_domain
    n, d = (table.params / domain[PARAMS]["reference"], table.data / domain[DATA]["reference"])
    return p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * d ** -p["beta"]


if __name__ == "__main__":
    common.answer(
        "simple-scaling-laws",
        version("simple-scaling-laws"),
        {
            "fit": lambda table, count, seed: _task(table, 1),
            "bootstrap": lambda table, count, seed: _task(table, count),
        },
    )

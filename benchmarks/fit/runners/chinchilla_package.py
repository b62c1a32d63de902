"""PyPI's chinchilla: BFGS in extended precision from a grid of starts; it has no bootstrap.

Its own losses are on other scales, so it is given the Huber loss of log residuals with delta 1e-3, which it averages.
Its plot of every fit is left out of the time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.metadata import version

import chinchilla
import common
import numpy as np
import pandas as pd

GRID = {
    "e": (0.0, 0.5, 1.0),
    "a": (4.0, 6.0, 8.0),
    "b": (5.0, 7.0, 9.0),
    "alpha": (0.2, 0.5),
    "beta": (0.2, 0.5),
}
DELTA = 1e-3


def _huber(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    size = np.abs(np.log(y_true) - np.log(y_pred))
    inside = np.minimum(size, DELTA)
    return inside * (size - 0.5 * inside)


def _fit(table: common.Table, count: int, seed: int) -> Callable[[], common.Done]:
    tool = chinchilla.Chinchilla(tempfile.mkdtemp(), param_grid=GRID, loss_fn=_huber, log_level=50)
    columns = {"C": 6 * table.params * table.data, "N": table.params, "D": table.data, "loss": table.loss}
    tool.database.df = pd.DataFrame(columns)
    tool.visualizer.optim = lambda *args, **options: None
    starts = int(np.prod([len(values) for values in GRID.values()]))

    def work() -> common.Done:
        tool.fit(parallel=False)
        return common.Done(predict=lambda: tool.predict_loss(table.params, table.data), done=starts, of=starts)

    return work


if __name__ == "__main__":
    common.answer("chinchilla", version("chinchilla"), {"fit": _fit})

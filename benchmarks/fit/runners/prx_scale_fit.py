"""prx-scale: multi-start fit of the Huber loss of log residuals, and resamples of rows, each refitted."""

from __future__ import annotations

from collections.abc import Callable

import common

from scaling import Points, fit


def _task(table: common.Table, resamples: int) -> Callable[[], common.Done]:
    points = Points(params=table.params, data=table.data, loss=table.loss)
    fit(points, bootstrap=min(resamples, 2))  # imports inside the first call are nobody's

    def work() -> common.Done:
        result = fit(points, bootstrap=resamples, intervals="percentile")
        whole = max(resamples, 1)
        return common.Done(predict=lambda: result.predict(points.params, points.data), done=whole, of=whole)

    return work


if __name__ == "__main__":
    common.answer(
        "prx-scale",
        "this tree",
        {
            "fit": lambda table, count, seed: _task(table, 0),
            "bootstrap": lambda table, count, seed: _task(table, count),
        },
    )

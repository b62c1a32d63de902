"""Time of a fit and of 1000 resamples against plain multi-start scipy, in one run on one core.

    OMP_NUM_THREADS=1 python benchmarks/fit/compare.py [table.csv]

The plain version is what one writes by hand after the papers: scipy's L-BFGS-B from every point of a grid of
starts on the log-sum-exp form with an analytic gradient, and for every resample again from the best point.
The table needs the columns params, tokens, loss; without one, the shipped over-training runs are used.
"""

from __future__ import annotations

import csv
import itertools
import sys
import time
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from scaling import Points, fit

DELTA = 1e-3
RESAMPLES = 1000
PLAIN_RESAMPLES = 100  # the plain loop is timed on a tenth and scaled
STARTS = itertools.product((0.0, 10.0, 20.0), (0.0, 10.0, 20.0), (-0.5, 0.5), (0.2, 0.5, 1.0), (0.2, 0.5, 1.0))
EXAMPLE = Path(__file__).parents[2] / "examples" / "overtraining" / "overtraining_c4_val.csv"


def objective(theta: np.ndarray, log_n: np.ndarray, log_d: np.ndarray, log_loss: np.ndarray, w: np.ndarray):
    """Summed Huber loss of log residuals and its gradient; theta = log A, log B, log E, alpha, beta."""
    a, b, e, alpha, beta = theta
    terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
    predicted = logsumexp(terms, axis=0)
    share = np.exp(terms - predicted)
    residual = log_loss - predicted
    inside = np.minimum(np.abs(residual), DELTA)
    pull = -w * np.clip(residual, -DELTA, DELTA)
    gradient = [
        pull @ share[0],
        pull @ share[1],
        pull @ share[2],
        -pull @ (share[0] * log_n),
        -pull @ (share[1] * log_d),
    ]
    return float(np.sum(w * inside * (np.abs(residual) - 0.5 * inside))), np.array(gradient)


def plain_fit(starts: list[tuple[float, ...]], columns: tuple[np.ndarray, ...], w: np.ndarray):
    """Best of L-BFGS-B from every start."""
    options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10}
    found = [minimize(objective, s, args=(*columns, w), jac=True, method="L-BFGS-B", options=options) for s in starts]
    return min(found, key=lambda each: each.fun)


def timed(function):
    """Seconds of processor time and the result."""
    began = time.process_time()
    result = function()
    return time.process_time() - began, result


def read(path: Path) -> Points:
    """Points of a CSV file; of the shipped example, one training set."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = [row for row in rows if row.get("train_set", "rpj") == "rpj" and row.get("in_fit", "True") == "True"]
    params, tokens, loss = (np.array([float(row[name]) for row in rows]) for name in ("params", "tokens", "loss"))
    return Points(params=params, data=tokens, loss=loss)


def main() -> None:
    """Print both sets of times, objectives and their ratios."""
    points = read(Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLE)
    columns = (np.log(points.params), np.log(points.data), np.log(points.loss))
    starts = list(STARTS)
    fit(points, bootstrap=2)  # imports and first-call costs are nobody's
    ours_one, best = timed(lambda: fit(points, bootstrap=0))
    ours_many, _ = timed(lambda: fit(points, bootstrap=RESAMPLES))
    plain_one, plain = timed(lambda: plain_fit(starts, columns, np.ones(points.n)))
    counts = np.random.default_rng(0).multinomial(points.n, np.full(points.n, 1 / points.n), size=PLAIN_RESAMPLES)
    plain_some, _ = timed(lambda: [plain_fit([plain.x], columns, w.astype(float)) for w in counts])
    plain_many = plain_some * RESAMPLES / PLAIN_RESAMPLES
    print(f"{points.n} points")
    print(f"{'':32}{'prx-scale':>14}{'plain scipy':>14}{'ratio':>9}")
    print(
        f"{f'one fit (plain: {len(starts)} starts), s':32}{ours_one:14.4f}{plain_one:14.2f}{plain_one / ours_one:9.0f}"
    )
    print(f"{f'{RESAMPLES} resamples, s':32}{ours_many:14.3f}{plain_many:14.1f}{plain_many / ours_many:9.0f}")
    print(f"{'objective':32}{best.objective:14.7e}{plain.fun:14.7e}{plain.fun / best.objective - 1:+9.1e}")


if __name__ == "__main__":
    main()

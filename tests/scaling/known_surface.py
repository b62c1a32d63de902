"""The known surface that synthetic points of the tests lie on."""

from __future__ import annotations

import numpy as np

TRUTH = {"E": 1.7, "A": 400.0, "B": 1500.0, "alpha": 0.34, "beta": 0.36}


def surface(params: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Loss of a run of that size and amount of data."""
    t = TRUTH
    return t["E"] + t["A"] * params ** -t["alpha"] + t["B"] * data ** -t["beta"]

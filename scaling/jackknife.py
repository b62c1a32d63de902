"""Fits without one cluster at a time, all in one batch."""

from __future__ import annotations

import numpy as np

from scaling.points import FloatArray, Points
from scaling.problem import Optimum, Problem, resolve


def leave_one_out(problem: Problem, points: Points, optimum: Optimum) -> FloatArray:
    """Internal parameters without each cluster, shape (clusters, p)."""
    w = problem.w * (points.cluster_codes[None, :] != np.arange(points.n_clusters)[:, None])
    return resolve(problem, optimum.theta, problem.y, w).theta

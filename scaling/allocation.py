"""How to split compute between parameters and data under L = E + A N^-alpha + B D^-beta and C = k N D.

Closed form of Hoffmann et al. 2022 (arXiv 2203.15556):
``a = beta / (alpha + beta)``, ``b = 1 - a``, ``G = (alpha A / (beta B))^(1 / (alpha + beta))``,
``N* = G (C/k)^a``, ``D* = (C/k)^b / G``.
"""

from __future__ import annotations

import numpy as np

from scaling.points import FloatArray


def params_exponent(alpha: FloatArray, beta: FloatArray) -> FloatArray:
    """a in N* ~ C^a; D* grows with 1 - a."""
    return beta / (alpha + beta)


def optimum(
    *,
    floor: FloatArray,
    a: FloatArray,
    b: FloatArray,
    alpha: FloatArray,
    beta: FloatArray,
    flops: FloatArray,
    flops_per: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute-optimal size, data and loss at a budget.

    Args:
        floor: irreducible loss E; this and the next four broadcast against ``flops``.
        a: coefficient A of the parameter term.
        b: coefficient B of the data term.
        alpha: exponent of the parameter term.
        beta: exponent of the data term.
        flops: training budget C in FLOPs.
        flops_per: k in C = k N D.

    Returns:
        N*, D* and L*(C), of the broadcast shape.
    """
    exponent = params_exponent(alpha, beta)
    product = np.log(np.asarray(flops, dtype=np.float64) / flops_per)
    # In logarithms: A and B reach 1e9 in weakly identified resamples.
    log_g = (np.log(alpha) + np.log(a) - np.log(beta) - np.log(b)) / (alpha + beta)
    log_params = log_g + exponent * product
    log_data = (1.0 - exponent) * product - log_g
    loss = floor + np.exp(np.log(a) - alpha * log_params) + np.exp(np.log(b) - beta * log_data)
    return np.exp(log_params), np.exp(log_data), loss


def even_split(batch: int) -> dict[str, FloatArray]:
    """Exponents of N* and D*, each (batch,), of laws in which both terms fall with the same exponent."""
    return {"params_exponent": np.full(batch, 0.5), "data_exponent": np.full(batch, 0.5)}

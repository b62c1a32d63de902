"""What training costs: FLOPs per sample (or token) as a function of model size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.bootstrap import places
from scaling.errors import FitInputError
from scaling.points import FloatArray, Points

_PROPORTIONAL = 0.01  # C / (N D) that varies by less than this is called constant


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training FLOPs of one sample, C = c(N) D.

    Between known sizes log c is interpolated linearly in log N; beyond them c is proportional to a power of N, the
    one that the known sizes show (with one known size, N itself).

    Attributes:
        log_params: log N of the known sizes, ascending, shape (m,), m at least 1.
        log_flops: log c at them, shape (m,).
    """

    log_params: FloatArray
    log_flops: FloatArray

    @classmethod
    def proportional(cls, flops_per: float) -> Cost:
        """c = k N, for example k = 6 where data are tokens (Kaplan et al. 2020, arXiv 2001.08361, sec. 2.1)."""
        return cls(log_params=np.zeros(1), log_flops=np.log([flops_per]))

    @classmethod
    def tabulated(cls, params: npt.ArrayLike, flops: npt.ArrayLike) -> Cost:
        """c known at some sizes: FLOPs of one sample, each of shape (m,)."""
        sizes, index = np.unique(np.asarray(params, dtype=np.float64), return_index=True)
        return cls(log_params=np.log(sizes), log_flops=np.log(np.asarray(flops, dtype=np.float64)[index]))

    @classmethod
    def measured(cls, points: Points, flops_per: float | None) -> Cost:
        """c from the points: k N where C / (N D) is a constant, else the median of C / D at every size.

        Raises:
            FitInputError: neither measured compute nor k is known.
        """
        if points.flops is None:
            if flops_per is None:
                raise FitInputError("what a sample costs is unknown: give the points a flops column")
            return cls.proportional(flops_per)
        sizes, data = points.need("params"), points.need("data")
        ratio = points.flops / (sizes * data)
        if float(ratio.max() / ratio.min()) < 1.0 + _PROPORTIONAL:
            return cls.proportional(float(np.median(ratio)))
        size, cost = places(sizes), points.flops / data
        numbers = range(int(size.max()) + 1)
        params = [float(np.median(sizes[size == number])) for number in numbers]
        return cls.tabulated(params, [float(np.median(cost[size == number])) for number in numbers])

    @property
    def _slope(self) -> float:
        if len(self.log_params) == 1:
            return 1.0
        x = self.log_params - self.log_params.mean()
        return float(x @ self.log_flops / (x @ x))

    def log_per_sample(self, log_params: FloatArray) -> FloatArray:
        """log c at log N, of the same shape."""
        inside = np.interp(log_params, self.log_params, self.log_flops)
        below = np.minimum(log_params - self.log_params[0], 0.0)
        above = np.maximum(log_params - self.log_params[-1], 0.0)
        return inside + self._slope * (below + above)

    def per_sample(self, params: npt.ArrayLike) -> FloatArray:
        """Training FLOPs of one sample at sizes N, of the shape of ``params``."""
        return np.exp(self.log_per_sample(np.log(np.asarray(params, dtype=np.float64))))

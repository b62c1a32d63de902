"""Scaling laws: fit them to their true optimum, say how sure that is, and what the next run will give.

Needs numpy and scipy only; charts of a fit need altair and polars. ``fit`` takes :class:`Points`, a frame or a dict of
columns and returns a :class:`FitResult`.
"""

from scaling.columns import points_from
from scaling.errors import FitInputError
from scaling.estimates import Estimate
from scaling.fitting import fit
from scaling.notices import Notice
from scaling.points import Points
from scaling.predictions import Prediction
from scaling.provenance import Provenance
from scaling.results import FitResult

__all__ = [
    "Estimate",
    "FitInputError",
    "FitResult",
    "Notice",
    "Points",
    "Prediction",
    "Provenance",
    "fit",
    "points_from",
]

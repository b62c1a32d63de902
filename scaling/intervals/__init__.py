"""Intervals of parameters, derived quantities and the curve, by kind; see :mod:`scaling.intervals.kinds`."""

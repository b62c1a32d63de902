"""From loss to a metric: laws of a downstream metric in the loss, and the chain from compute to the metric."""

from scaling.downstream.chain import Chain, ChainPrediction, Target, chain
from scaling.downstream.fitting import MetricFit, fit_metric
from scaling.downstream.forms import FORMS
from scaling.downstream.rows import Metric, MetricRows
from scaling.downstream.selection import FormScore, choose_form

__all__ = [
    "FORMS",
    "Chain",
    "ChainPrediction",
    "FormScore",
    "Metric",
    "MetricFit",
    "MetricRows",
    "Target",
    "chain",
    "choose_form",
    "fit_metric",
]

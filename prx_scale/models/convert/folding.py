"""Multipliers of a model's forward pass, folded into its weights: the published model has none."""

from __future__ import annotations

from collections.abc import Callable

from prx_scale.models.convert.tensors import Read
from prx_scale.models.mmdit import MMDiT
from prx_scale.runtables import HEAD_DIM

Factor = Callable[[str], float]
"""Of a parameter's name: what it is multiplied by where weights leave a model, and divided by where they enter it."""


def factor_of(config: MMDiT.Config) -> Factor:
    """Factors with which a model that scales its logits by 1/sqrt(64), and nothing else, computes the same.

    Another scale of the logits goes into the queries: their norm where they have one, else their projection. muP's
    multipliers of residual branches and of the output go into the matrices behind them.

    Args:
        config: of the model.
    """
    logits = config.blocks[0].attention.scale * HEAD_DIM**0.5
    ends = (".q_norm.weight",) if config.shape.qk_norm else (".q.weight", ".q.bias")
    return lambda name: (logits if name.endswith(ends) else 1.0) * config.parametrisation.folded(name)


def multiplied(read: Read, factor: Factor) -> Read:
    """Parameters times their factors.

    Args:
        read: gives the parameters.
        factor: of each.
    """
    return lambda name: read(name) if factor(name) == 1 else read(name) * factor(name)

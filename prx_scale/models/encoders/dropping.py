"""What "no condition" is: the same states where training drops the caption and where guidance leads away from it.

States become zero. An encoder whose padding is masked has no tokens left at all: a mask that stayed would still tell
how long the caption was, and there would be as many kinds of no condition as there are lengths.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prx_scale.models.encoders.states import TextStates
from prx_scale.models.inputs import Inputs, TextEncoder


def drop(states: TextStates, inputs: Inputs, rows: Tensor) -> None:
    """Take their whole condition from some captions.

    Args:
        states: written into.
        inputs: which encoder fills which part.
        rows: (R,) numbers of the captions.
    """
    states.tokens[rows], states.pooled[rows] = 0, 0
    for encoder in inputs.encoders:
        _hide(states, encoder, rows)


def drop_encoder(states: TextStates, encoder: TextEncoder, rows: Tensor) -> None:
    """Take one encoder's part of the condition from some captions.

    Args:
        states: written into.
        encoder: the one.
        rows: (R,) numbers of the captions.
    """
    states.tokens[rows, slice(*encoder.tokens), slice(*encoder.channels)] = 0
    states.pooled[rows, slice(*encoder.pooled)] = 0
    _hide(states, encoder, rows)


def without_condition(states: TextStates, inputs: Inputs) -> TextStates:
    """The empty condition, for as many captions as there are.

    Args:
        states: left as they are.
        inputs: which encoder fills which part.
    """
    mask = None if states.mask is None else states.mask.clone()
    empty = TextStates(tokens=states.tokens.clone(), pooled=states.pooled.clone(), mask=mask)
    drop(empty, inputs, torch.arange(len(states), device=states.tokens.device))
    return empty


def _hide(states: TextStates, encoder: TextEncoder, rows: Tensor) -> None:
    if encoder.masked and states.mask is not None:
        states.mask[rows, slice(*encoder.tokens)] = False

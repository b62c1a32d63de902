"""The embedded text encoder: fixed random word vectors, each with the word before it, plus sinusoidal positions.

Nothing in it is trained. The word before is added through a fixed rotation, as the token vectors of a real text
encoder carry their context: without it, which colour goes with which shape takes a small transformer far longer to
learn.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.shapes.captions import MAX_TOKENS, PADDING, VOCABULARY, tokenize

TEXT_DIM = 64
_SEED = 20240305

Vectors = NDArray[np.float32]


@cache
def word_vectors() -> Vectors:
    """(V, 64) orthogonal rows of root-mean-square 1; padding is zero."""
    vectors = (_orthogonal(_SEED, len(VOCABULARY)).T * TEXT_DIM**0.5).astype(np.float32)
    vectors[PADDING] = 0
    return vectors


@cache
def carried_vectors() -> Vectors:
    """(V, 64) what a word leaves in the vector of the next word: its own vector in a fixed random rotation."""
    return word_vectors() @ _orthogonal(_SEED + 1, TEXT_DIM).astype(np.float32)


def _orthogonal(seed: int, columns: int) -> NDArray[np.float64]:
    """(64, columns) orthonormal columns, the same on every machine up to rounding."""
    normal = np.random.Generator(np.random.Philox(seed)).standard_normal((TEXT_DIM, columns))
    basis = np.linalg.qr(normal)[0]
    # QR leaves the sign of each column to the LAPACK build; fix it.
    return basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(columns)])


@cache
def position_vectors() -> Vectors:
    """(MAX_TOKENS, 64) sinusoidal positions (Vaswani et al., 2017, section 3.5, with base 100)."""
    rate = 100.0 ** (-np.arange(TEXT_DIM // 2) / (TEXT_DIM // 2))
    angle = np.arange(MAX_TOKENS)[:, None] * rate
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


def encode(captions: Sequence[str], encoders: int = 1) -> tuple[Vectors, Vectors]:
    """Encode captions.

    Args:
        captions: B captions; "" is the empty condition and encodes to zeros.
        encoders: 1, or 2 to have the vectors of single words, with positions, as tokens before the others.

    Returns:
        context (B, encoders x MAX_TOKENS, 64), zero at padding, and pooled (B, 64): the sum of the word vectors over
        the square root of their number, so that both have entries of about unit size. The pooled vector knows which
        words there are; only the context knows their order.

    Raises:
        InputError: a caption has unknown words or too many.
    """
    tokens = np.stack([tokenize(caption) for caption in captions])
    real = (tokens != PADDING)[..., None].astype(np.float32)
    words = word_vectors()[tokens]
    pooled = words.sum(axis=1) / np.sqrt(np.maximum(real.sum(axis=1), 1))
    before = np.zeros_like(words)
    before[:, 1:] = carried_vectors()[tokens[:, :-1]]
    # The sum of two unrelated vectors is rescaled to the size of one.
    context = ((words + before) * np.float32(0.5**0.5) + position_vectors()) * real
    if encoders == 2:
        context = np.concatenate([(words + position_vectors()) * real, context], axis=1)
    return context, pooled

"""Counter-based random numbers: what sample i draws depends on (seed, i) and on nothing else."""

import numpy as np
from numpy.typing import NDArray

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash 64-bit words with the SplitMix64 finaliser (Steele, Lea and Flood, OOPSLA 2014).

    Args:
        values: words of any shape.

    Returns:
        Hashed words of the same shape; a bijection of each word.
    """
    with np.errstate(over="ignore"):
        z = values + _INCREMENT
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


def uniforms(seed: int, indices: NDArray[np.int64], draws: int) -> NDArray[np.float64]:
    """Draw `draws` uniform numbers for every index.

    Args:
        seed: stream; any non-negative integer below 2**63.
        indices: (B,) sample numbers, non-negative.
        draws: how many numbers a sample needs.

    Returns:
        (B, draws) numbers in [0, 1). Row b depends on the seed and indices[b] only.
    """
    stream = mix(np.asarray([seed], dtype=np.uint64))
    keys = mix(stream ^ mix(indices.astype(np.uint64)))
    counters = mix(np.arange(draws, dtype=np.uint64))
    words = mix(keys[:, None] ^ counters[None, :])
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

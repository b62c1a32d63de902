"""GenEval's scores: task means, their plain mean, and intervals that respect images sharing a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prx_scale.errors import InputError
from prx_scale.evaluation.geneval import TAGS


@dataclass(frozen=True, kw_only=True)
class Graded:
    """One judged image."""

    prompt_id: int
    image_id: int
    tag: str
    correct: bool


@dataclass(frozen=True, kw_only=True)
class Score:
    """A share between 0 and 1 with its bootstrap standard error and percentile interval; n images."""

    value: float
    stderr: float
    interval: tuple[float, float]
    n: int


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one set of images.

    `tasks` holds the tags that occur, in GenEval's order; `overall` is the plain mean of the six tasks and None if
    a task has no images. `images` is the share of correct images, `prompts` the share of prompts with at least one
    correct image. `notices` say what is incomplete.
    """

    tasks: dict[str, Score]
    overall: Score | None
    images: float
    prompts: float
    notices: tuple[str, ...]


def score(
    graded: Sequence[Graded],
    images_per_prompt: int = 4,
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Scores:
    """Score judged images.

    Prompts are resampled within each tag, because the images of a prompt are correlated.

    Args:
        graded: all judged images, in any order.
        images_per_prompt: how many a complete evaluation has.
        replicates: bootstrap replicates.
        level: level of the intervals.
        seed: seed of the bootstrap.

    Raises:
        InputError: nothing to score, an unknown tag, or an image judged twice.
    """
    _refuse(graded)
    rng = np.random.default_rng(seed)
    shares = {tag: _shares(graded, tag) for tag in TAGS if any(row.tag == tag for row in graded)}
    draws = {tag: _resample(table, replicates, rng) for tag, table in shares.items()}
    means = {tag: float(table[:, 0].sum() / table[:, 1].sum()) for tag, table in shares.items()}
    sizes = {tag: int(table[:, 1].sum()) for tag, table in shares.items()}
    tasks = {tag: _score(means[tag], draws[tag], sizes[tag], level) for tag in shares}
    overall = None
    if len(tasks) == len(TAGS):
        together = np.mean(np.stack([draws[tag] for tag in TAGS]), axis=0)
        overall = _score(float(np.mean([means[tag] for tag in TAGS])), together, len(graded), level)
    every = np.concatenate(list(shares.values()))
    return Scores(
        tasks=tasks,
        overall=overall,
        images=float(every[:, 0].sum() / every[:, 1].sum()),
        prompts=float((every[:, 0] > 0).mean()),
        notices=_notices(shares, images_per_prompt),
    )


def _refuse(graded: Sequence[Graded]) -> None:
    if not graded:
        raise InputError("GenEval: no judged images to score")
    unknown = sorted({row.tag for row in graded} - set(TAGS))
    if unknown:
        raise InputError(f"GenEval: unknown tag {unknown[0]!r}; valid: {', '.join(TAGS)}")
    seen: set[tuple[int, int]] = set()
    for row in graded:
        if (row.prompt_id, row.image_id) in seen:
            raise InputError(f"GenEval: image {row.image_id} of prompt {row.prompt_id} is judged twice")
        seen.add((row.prompt_id, row.image_id))


def _shares(graded: Sequence[Graded], tag: str) -> NDArray[np.float64]:
    """(prompts, 2): correct images and images of every prompt of the tag."""
    rows = [row for row in graded if row.tag == tag]
    _, place = np.unique([row.prompt_id for row in rows], return_inverse=True)
    correct = np.bincount(place, weights=[row.correct for row in rows])
    return np.stack([correct, np.bincount(place)], axis=1).astype(np.float64)


def _resample(table: NDArray[np.float64], replicates: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(replicates,) task means with prompts drawn with replacement."""
    drawn = table[rng.integers(len(table), size=(replicates, len(table)))].sum(axis=1)
    return drawn[:, 0] / drawn[:, 1]


def _score(value: float, draws: NDArray[np.float64], n: int, level: float) -> Score:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Score(value=value, stderr=float(draws.std(ddof=1)), interval=(float(low), float(high)), n=n)


def _notices(shares: dict[str, NDArray[np.float64]], images_per_prompt: int) -> tuple[str, ...]:
    missing = [tag for tag in TAGS if tag not in shares]
    notices = [f"no overall score: no images of {', '.join(missing)}"] if missing else []
    for tag, table in shares.items():
        odd = int((table[:, 1] != images_per_prompt).sum())
        if odd:
            notices.append(f"{tag}: {odd} of {len(table)} prompts do not have {images_per_prompt} images")
    return tuple(notices)

"""What kind of source a path is."""

from __future__ import annotations

import glob
from collections.abc import Collection, Sequence
from pathlib import Path

from prx_scale.errors import InputError
from prx_scale.sources.sheet import Sheet
from prx_scale.sources.studies import open_study
from prx_scale.sources.tables import open_table
from prx_scale.sources.tensorboard import EVENTS, open_tensorboard
from prx_scale.sources.wandb import RUNS, open_wandb


def expand(sources: Sequence[str | Path]) -> list[Path]:
    """Paths of all sources; a pattern stands for the files that match it, in order of name.

    Raises:
        InputError: no file matches a pattern.
    """
    paths: list[Path] = []
    for source in sources:
        text = str(source)
        if Path(source).exists() or not glob.has_magic(text):
            paths.append(Path(source))
        elif matches := sorted(glob.glob(text, recursive=True)):
            paths += map(Path, matches)
        else:
            raise InputError(f"{text}: no file matches this pattern")
    return paths


def open_source(path: Path, asked: Collection[str]) -> Sheet:
    """Open a file, study, log directory or run folder.

    Args:
        path: what there is.
        asked: columns that the user has conditions on.

    Raises:
        InputError: it is none of these, or damaged.
    """
    if not path.is_dir():
        return open_table(path)
    if (path / "study.toml").exists() or any(path.glob("runs/*/run.json")) or (path / "run.json").exists():
        return open_study(path, asked)
    kinds = {
        "TensorBoard event files": (EVENTS, open_tensorboard),
        "W&B runs": (RUNS, open_wandb),
    }
    found = [name for name, (pattern, _) in kinds.items() if any(path.rglob(pattern))]
    if len(found) > 1:
        raise InputError(f"{path}: holds {' and '.join(found)}; name the folder of the one to read")
    if not found:
        raise InputError(
            f"{path}: holds no study, TensorBoard event files or W&B runs; for tables give the files: '{path}/*.csv'"
        )
    return kinds[found[0]][1](path)

"""Whether data are still what they were: where their files lie, how long they are and when they changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence

from prx_scale.data.sources.files import is_url
from prx_scale.data.sources.specs import resolve


def state_of_file(path: str) -> str:
    """Where a file lies, its bytes and the time of its last change; a URL alone, which is taken never to change.

    Args:
        path: local path or URL.

    Raises:
        OSError: it is not there.
    """
    if is_url(path):
        return path
    state = os.stat(path)
    return f"{os.path.realpath(path)}\n{state.st_size}\n{state.st_mtime_ns}"


def state_of(spec: str | Sequence[str]) -> str:
    """A hash that is another once a file of the data is another, or lies elsewhere.

    The fingerprint of a source is of names and numbers of samples alone, which many data share.

    Args:
        spec: as `open_source` takes it.

    Raises:
        InputError: nothing is there.
    """
    digest = hashlib.sha256()
    for path in resolve(spec).paths:
        for file in _below(path) if not is_url(path) and os.path.isdir(path) else (path,):
            digest.update(f"{_state_or_gone(file)}\n\n".encode())
    return digest.hexdigest()


def _below(root: str) -> Iterator[str]:
    for folder, files in listed(root):
        yield from (os.path.join(folder, file) for file in files)


def _state_or_gone(file: str) -> str:
    try:
        return state_of_file(file)
    except OSError:
        return f"{file}\ngone"


def listed(root: str) -> Iterator[tuple[str, list[str]]]:
    """Folders below one, itself included, each once and with the names of its files, sorted; none that is hidden.

    Args:
        root: the folder.
    """
    visited: set[str] = set()
    for folder, inner, files in os.walk(root, followlinks=True):
        inner[:] = sorted(each for each in inner if not each.startswith("."))
        if (real := os.path.realpath(folder)) in visited:
            inner.clear()
            continue
        visited.add(real)
        yield folder, sorted(each for each in files if not each.startswith("."))

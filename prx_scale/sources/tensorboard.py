"""TensorBoard event files: every folder that holds some is a run, every scalar tag a column.

What a run's hyperparameters say (TensorBoard's hparams plugin, or the ``hparams.yaml`` that Lightning writes beside the
events) becomes columns too, so that a logged number of parameters is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prx_scale.errors import InputError
from prx_scale.sources.logs import LoggedRun, as_sheet, flatten
from prx_scale.sources.sheet import Sheet

EVENTS = "*tfevents*"


def open_tensorboard(path: Path) -> Sheet:
    """Read the runs below a log directory.

    Raises:
        InputError: tensorboard is not installed, or nothing was logged.
    """
    try:
        import tensorboard.backend.event_processing.event_file_loader  # noqa: F401
    except ModuleNotFoundError as error:
        message = "reading TensorBoard event files needs tensorboard: pip install 'prx-scale[logs]'"
        raise InputError(f"{path}: {message}") from error
    folders = sorted({file.parent for file in path.rglob(EVENTS)})
    read = {folder: _read(folder) for folder in folders}
    runs: list[LoggedRun] = []
    for folder, (steps, config, rewritten) in read.items():
        if _describes(folder, read):
            continue
        # SummaryWriter.add_hparams writes into a folder of its own inside the run's.
        inner = {key: value for child in folders if child.parent == folder for key, value in read[child][1].items()}
        name = path.resolve().name if folder == path else str(folder.relative_to(path))
        known = {**_hparams_yaml(folder), **inner, **config}
        runs.append(LoggedRun(name=name, steps=steps, config=known, rewritten=rewritten))
    return as_sheet(str(path), runs)


_Read = tuple[dict[int, dict[str, float]], dict[str, Any], int]


def _describes(folder: Path, read: dict[Path, _Read]) -> bool:
    """Whether a folder only holds the hyperparameters of the run that it lies in."""
    return bool(read[folder][1]) and folder.parent in read


def _read(folder: Path) -> _Read:
    steps: dict[int, dict[str, float]] = {}
    config: dict[str, Any] = {}
    rewritten = 0
    scalars: set[str] = set()
    for file in sorted(folder.glob(EVENTS)):
        for step, value in _values(file):
            plugin = value.metadata.plugin_data
            if plugin.plugin_name == "hparams":
                config |= _hparams(plugin.content)
            elif plugin.plugin_name == "scalars":
                scalars.add(value.tag)
            if value.tag in scalars:
                row = steps.setdefault(step, {})
                rewritten += value.tag in row
                row[value.tag] = _number(value.tensor)
    return steps, config, rewritten


def _values(file: Path) -> Iterator[tuple[int, Any]]:
    """Step and value of every summary; the loader turns summaries of every age into tensors with metadata."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            yield event.step, value


def _number(tensor: Any) -> float:
    from tensorboard.util import tensor_util

    return float(tensor_util.make_ndarray(tensor).item())


def _hparams(content: bytes) -> dict[str, Any]:
    from tensorboard.plugins.hparams import plugin_data_pb2

    messages: Any = plugin_data_pb2  # protobuf makes its classes when it is imported
    found = messages.HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: getattr(value, kind) for name, value in found.items() if (kind := value.WhichOneof("kind"))}


def _hparams_yaml(folder: Path) -> dict[str, Any]:
    file = folder / "hparams.yaml"
    if not file.exists():
        return {}
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise InputError(f"{file}: needs pyyaml: pip install 'prx-scale[logs]'") from error
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return {}  # tags of Python objects, which only the program that wrote them can read
    return flatten(content) if isinstance(content, dict) else {}  # pyright: ignore[reportUnknownArgumentType]

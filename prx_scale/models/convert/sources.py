"""Open what weights come in: pipeline and transformer folders, safetensors, and torch's files read as tensors alone."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prx_scale.errors import InputError
from prx_scale.models.convert.headers import Described, read_header, read_index
from prx_scale.models.convert.tensors import Read
from prx_scale.models.names import TensorShape
from prx_scale.runtables import HEAD_DIM

TORCH_ENDINGS = (".pt", ".pth", ".bin", ".ckpt")
STEMS = ("diffusion_pytorch_model", "model")
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Tensors by name, each read when it is asked for."""

    path: Path
    """The file, index or folder that names are told with."""
    files: tuple[Path, ...]
    shapes: Mapping[str, TensorShape]
    dtypes: Mapping[str, str]
    """As torch names them, without its prefix; as the file does where torch's floating-point types have no such."""
    read: Read

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each file."""
        found: dict[str, str] = {}
        for file in self.files:
            with file.open("rb") as stream:
                found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
        return found


def open_source(path: Path) -> Source:
    """Open weights, whatever they come in; nothing is unpickled.

    Args:
        path: a pipeline folder, a transformer folder, a safetensors file or index, or a .pt, .pth, .bin or .ckpt file.

    Raises:
        InputError: there are no weights, or they cannot be read safely.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        return open_source(_in_folder(path))
    if path.name.endswith(".safetensors.index.json"):
        return _safetensors(path, read_index(path))
    if path.suffix == ".safetensors":
        return _safetensors(path, read_header(path))
    if path.suffix in TORCH_ENDINGS:
        return _torch_file(path)
    valid = ", ".join((".safetensors", ".safetensors.index.json", *TORCH_ENDINGS))
    raise InputError(f"{path}: not a kind of file that weights come in; those end in {valid}")


def _in_folder(folder: Path) -> Path:
    if (folder / "weights.json").exists():
        raise InputError(f"{folder}: already has weights of our own; set [training] start_from to it")
    if (folder / "model_index.json").exists():
        if not (folder / "transformer").is_dir():
            raise InputError(f"{folder}: a pipeline without a transformer/ folder; an SD3 pipeline has one")
        folder = folder / "transformer"
    _check_config(folder / "config.json")
    for stem in STEMS:
        for ending in (".safetensors.index.json", ".safetensors", ".bin"):
            if (folder / f"{stem}{ending}").exists():
                return folder / f"{stem}{ending}"
    others = sorted(file.name for file in folder.glob("*.safetensors*"))
    choose = f"; name one of {', '.join(others)}" if others else ""
    raise InputError(f"{folder}: no {' or '.join(f'{stem}.safetensors' for stem in STEMS)}{choose}")


def _check_config(file: Path) -> None:
    """Refuse what diffusers' config.json says and tensors do not: another class, or heads of another width."""
    if not file.exists():
        return
    try:
        config = cast("dict[str, Any]", json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error})") from error
    expected = {"_class_name": "SD3Transformer2DModel", "attention_head_dim": HEAD_DIM}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise InputError(f"{file}: {key}: {config[key]!r} cannot be represented; only {value!r} can")


def _safetensors(path: Path, described: Mapping[str, Described]) -> Source:
    def read(name: str) -> Tensor:
        file = described[name].file
        try:
            with safe_open(file, framework="pt") as opened:
                return opened.get_tensor(name)
        except SafetensorError as error:
            raise InputError(f"{file}: {name}: cannot be read ({error})") from error

    return Source(
        path=path,
        files=tuple(sorted({each.file for each in described.values()})),
        shapes={name: each.shape for name, each in described.items()},
        dtypes={name: DTYPES.get(each.dtype, each.dtype) for name, each in described.items()},
        read=read,
    )


def _torch_file(path: Path) -> Source:
    content = _loaded(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: holds {type(content).__name__}, not a table of tensors by name")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{path}: {name}: a {type(value).__name__}, not a tensor")
    tensors = cast("dict[str, Tensor]", content)
    return Source(
        path=path,
        files=(path,),
        shapes={name: tuple(value.shape) for name, value in tensors.items()},
        dtypes={name: str(value.dtype).removeprefix("torch.") for name, value in tensors.items()},
        read=tensors.__getitem__,
    )


def _loaded(path: Path) -> Any:
    """Tensors and plain containers only; in place on the disk where the file allows it."""
    load: Callable[..., Any] = torch.load
    try:
        try:
            return load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # torch's format before 1.6 cannot be mapped
            return load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused: it holds more than tensors, and nothing is unpickled; save it as safetensors"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a file that torch saved, or cut short ({error})") from error

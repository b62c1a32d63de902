"""Where an encoder's files are: a folder, or a repository of the Hugging Face hub. Needs no torch.

A folder holds config.json, weights and, for text, the tokenizer; or it is that of a pipeline, with text_encoder_2/ and
tokenizer_2/ in it. A repository is OWNER/NAME, laid out like either, or OWNER/NAME/FOLDER. With HF_HUB_OFFLINE=1 only
what the hub's cache has is found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from prx_scale.errors import InputError
from prx_scale.models.encoders.declared import CONFIG
from prx_scale.models.encoders.registry import ImageSpec, TextSpec

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<folder>[\w./-]+))?")
_SMALL = ("*.json", "*.txt", "*.model")
_WEIGHTS = ("model*.safetensors", "diffusion_pytorch_model*.safetensors")
_PICKLED = ("pytorch_model*.bin", "diffusion_pytorch_model*.bin")
_LESS_PRECISE = ["*.fp16.*", "*.fp16-*", "*.bf16.*", "*.bf16-*"]
_TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")


@dataclass(frozen=True, kw_only=True)
class Located:
    """Folders of an encoder."""

    model: Path
    tokenizer: Path | None = None


def locate(spec: TextSpec | ImageSpec, source: str = "") -> Located:
    """Find an encoder's files, and fetch them from the hub where they are there.

    Args:
        spec: of the encoder.
        source: folder or hub id; "" is the published one.

    Raises:
        InputError: says what was looked for.
    """
    source = source or spec.hub
    if not source:
        raise InputError(f"'{spec.name}' has no published weights; name a folder or a hub id")
    folder = Path(source).expanduser()
    model = _model_folder(folder, spec) if folder.exists() else _from_hub(source, spec)
    return Located(model=model, tokenizer=_tokenizer_folder(model, spec) if isinstance(spec, TextSpec) else None)


def _model_folder(folder: Path, spec: TextSpec | ImageSpec) -> Path:
    candidates = (folder, folder / spec.folder)
    for candidate in candidates:
        if (candidate / CONFIG).is_file():
            return candidate
    looked = " and ".join(str(candidate / CONFIG) for candidate in candidates)
    raise InputError(f"{folder}: no '{spec.name}' in it; looked for {looked}")


def _tokenizer_folder(model: Path, spec: TextSpec) -> Path:
    candidates = (model, model.parent / model.name.replace("text_encoder", "tokenizer"))
    for candidate in candidates:
        if any((candidate / name).is_file() for name in _TOKENIZERS):
            return candidate
    looked = " or ".join(_TOKENIZERS)
    places = " and ".join(str(candidate) for candidate in dict.fromkeys(candidates))
    raise InputError(f"{model}: no tokenizer of '{spec.name}'; looked for {looked} in {places}")


def _from_hub(source: str, spec: TextSpec | ImageSpec) -> Path:
    match = _HUB.fullmatch(source)
    if not match:
        raise InputError(f"{source}: no such folder, and not a hub id (OWNER/NAME) of '{spec.name}'")
    # What is small says where in the repository the encoder lies, and then only its own weights are fetched.
    root = _snapshot(match["repo"], [*_SMALL], spec)
    model = _model_folder(root / match["folder"] if match["folder"] else root, spec)
    prefix = "" if model == root else f"{model.relative_to(root).as_posix()}/"
    for names in (_WEIGHTS, _PICKLED):
        _snapshot(match["repo"], [prefix + name for name in names], spec)
        if any(path for name in names for path in model.glob(name)):
            return model
    raise InputError(
        f"{source}: no weights of '{spec.name}'; looked for {', '.join((*_WEIGHTS, *_PICKLED))} in {model}"
    )


def _snapshot(repo: str, patterns: list[str], spec: TextSpec | ImageSpec) -> Path:
    # The hub's client is part of the training extra.
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, allow_patterns=patterns, ignore_patterns=_LESS_PRECISE))
    except LocalEntryNotFoundError as error:
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise InputError(
            f"{repo}: no such folder, {reason}, and the hub's cache {constants.HF_HUB_CACHE} does not have it; "
            f"name a folder with the weights of '{spec.name}'"
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        message = str(error).strip().splitlines()[-1]
        raise InputError(f"{repo}: the hub does not give the weights of '{spec.name}' ({message})") from error

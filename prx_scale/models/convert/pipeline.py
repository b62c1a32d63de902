"""diffusers' pipeline folder around a transformer: scheduler, index, and the components that are copied in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from prx_scale.errors import InputError, nearest
from prx_scale.models.convert.writing import write_json
from prx_scale.models.names import WeightSizes

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
COMPONENTS = ("vae", *ENCODERS, *TOKENIZERS)
OPTIONAL = ("image_encoder", "feature_extractor")
"""Of other uses of the pipeline; always null."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """A part of a pipeline that is copied in."""

    folder: Path
    library: str
    cls: str
    config: Mapping[str, Any]


def find_components(words: Sequence[str]) -> dict[str, Component]:
    """The components that options name.

    Args:
        words: each NAME=DIR, or the folder of a pipeline, all of whose components are taken.

    Raises:
        InputError: a name is not one of a pipeline's components, or a folder does not hold it.
    """
    folders: dict[str, Path] = {}
    for word in words:
        name, sign, place = word.partition("=")
        if not sign:
            folders |= _of_pipeline(Path(word))
        elif name in COMPONENTS:
            folders[name] = Path(place)
        else:
            raise InputError(f"--components {word}: '{name}' is not a component; {nearest(name, COMPONENTS)}")
    return {name: _component(name, folder) for name, folder in folders.items()}


def _of_pipeline(folder: Path) -> dict[str, Path]:
    if not (folder / "model_index.json").exists():
        raise InputError(f"--components {folder}: no pipeline (it has no model_index.json); or write NAME=DIR")
    return {name: folder / name for name in COMPONENTS if (folder / name).is_dir()}


def _component(name: str, folder: Path) -> Component:
    tokenizer = name in TOKENIZERS
    file = folder / ("tokenizer_config.json" if tokenizer else "config.json")
    try:
        config = cast("dict[str, Any]", json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"--components {name}: {file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"--components {name}: {file}: not JSON ({error})") from error
    key = "tokenizer_class" if tokenizer else "_class_name" if name == "vae" else "architectures"
    value = config.get(key)
    cls = value[0] if isinstance(value, list) and value else value
    if not isinstance(cls, str):
        raise InputError(f"--components {name}: {file}: {key}: missing; it names the class to load")
    return Component(folder=folder, library="diffusers" if name == "vae" else "transformers", cls=cls, config=config)


def check_components(components: Mapping[str, Component], sizes: WeightSizes) -> None:
    """Whether components are of the sizes that the transformer takes.

    Args:
        components: by name.
        sizes: of the transformer.

    Raises:
        InputError: names the component and key that do not fit.
    """
    clips = [components[name] for name in ENCODERS[:2] if name in components]
    if len(clips) == 2:
        _check("text_encoder and text_encoder_2", "projection_dim", clips, sizes.pooled_dim, "pooled text states")
        width = sum(each.config.get("hidden_size", 0) for each in clips)
        if width > sizes.context_dim:
            raise InputError(
                f"--components text_encoder and text_encoder_2: hidden_size: {width} together, more than the "
                f"{sizes.context_dim} of the transformer's text states"
            )
    if "text_encoder_3" in components:
        _check("text_encoder_3", "d_model", [components["text_encoder_3"]], sizes.context_dim, "text states")
    if "vae" in components:
        _check("vae", "latent_channels", [components["vae"]], sizes.channels, "channels")


def _check(name: str, key: str, parts: Sequence[Component], expected: int, what: str) -> None:
    found = sum(part.config.get(key, 0) for part in parts)
    if found != expected:
        raise InputError(f"--components {name}: {key}: {found}, but the transformer takes {expected} ({what})")


def write_pipeline(folder: Path, *, shift: float, components: Mapping[str, Component]) -> None:
    """Write what stands around `transformer/`: scheduler, copies of the components, and the index.

    Args:
        folder: of the pipeline, with its transformer.
        shift: alpha of the run's times.
        components: to copy in; others are null.
    """
    scheduler = folder / "scheduler"
    scheduler.mkdir()
    write_json(scheduler / "scheduler_config.json", scheduler_config(shift))
    for name, component in components.items():
        shutil.copytree(component.folder, folder / name)
    index: dict[str, Any] = {
        "_class_name": "StableDiffusion3Pipeline",
        "_diffusers_version": version("diffusers"),
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "transformer": ["diffusers", "SD3Transformer2DModel"],
    }
    index |= {name: [None, None] for name in (*COMPONENTS, *OPTIONAL)}
    index |= {name: [component.library, component.cls] for name, component in components.items()}
    write_json(folder / "model_index.json", index)


def scheduler_config(shift: float) -> dict[str, Any]:
    """diffusers' scheduler_config.json for a run.

    The class shifts whatever times it is given once. Those that it makes itself run down to a time that is already
    shifted, so that they are shifted twice at their end; only times that are passed in agree with our sampler's.

    Args:
        shift: alpha of the run's times.
    """
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": shift,
        "use_dynamic_shifting": False,
    }

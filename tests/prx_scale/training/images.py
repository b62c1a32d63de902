"""A small study on images of several sizes, and the same on the store that they are encoded into."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

import encoding

STUDY = """
[study]
name = "images"
[model]
depth = 1
position_grid = 6
[data]
{data}
image_size = 64
heldout = 0.2
[captions]
kinds = ["original", "long"]
weights = [1.0, 2.0]
{encoding}
[training]
batch = 4
lr = 1e-3
warmup = 4
[validation]
every = 4
images = 7
[checkpoint]
every = 6
[logging]
every = 1
[parallel]
micro_batch = 2
"""
IMAGES = 'dataset = "images"\npath = "../tars"'
STORE = 'dataset = "store"\npath = "../store"'
LATENTS = 'dataset = "store"\npath = "../latents"'
TEXT = 'text_encoders = ["clip-l=../encoders", "clip-g=../encoders", "t5=../encoders"]\nthreads = 1\n'
ENCODING = f"""[encoding]
image_encoder = "sd3=../encoders"
captions = ["original=txt", "long=long"]
buckets = "prx"
bucket_step = 16
survey = "images"
{TEXT}"""
STAGES = """
[[stage]]
name = "low"
steps = 6
image_size = 48
[[stage]]
name = "high"
steps = 14
batch = 8
warmup = 2
replay = "low"
replay_share = 0.4
"""
MIXED = """
[[stage]]
name = "low"
steps = 4
image_size = 48
data = [{{ path = "../{more}" }}]
[[stage]]
name = "mixed"
steps = 6
replay = "low"
replay_share = 0.3
data = [{{ path = "../{more}" }}, {{ path = "../{own}", weight = 2, filter = "../chosen" }}]
[[stage]]
name = "own"
steps = 4
"""
"""Stages on images that lie beside those of [data], on a mix of both, and on those of [data]."""
PLAIN = "[[stage]]\nname = 'all'\nsteps = {steps}\n"
SAMPLES = 60


def write_world(folder: Path) -> Path:
    """Encoders, images, and the stores that they are encoded into, with and without text states."""
    encoding.write_encoders(folder / "encoders")
    encoding.write_data(folder / "tars", samples=SAMPLES)
    write_store(folder, "tars", "store")
    write_store(folder, "tars", "latents", "--text-encoders")
    return folder


def write_store(folder: Path, tars: str, store: str, *more: str) -> None:
    """Encode tars as the study's [encoding] says."""
    words = encoding.words(folder / tars, folder / store, folder / "encoders", "--threads", "1")
    at = words.index("--shard-size")
    words = [*words[:at], *words[at + 4 :], "--max-skipped", "0.5", *more]
    at = words.index("--resolution")
    words[at + 1 : at + 2] = ["48", "64"]
    process = encoding.start(words)
    told, _ = process.communicate(timeout=200)
    assert process.returncode == 0, told


def write_study(
    folder: Path, *, data: str = IMAGES, encoding: str = ENCODING, stages: str = STAGES, more: str = ""
) -> Path:
    """Write a study.toml into a folder of its own, beside what `write_world` made.

    Returns:
        The study's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(STUDY.format(data=data, encoding=encoding) + stages + more)
    return folder

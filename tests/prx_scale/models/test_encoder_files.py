"""Where encoders' files are found, and the hash of what their output depends on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import COMMIT, serve

from prx_scale.errors import InputError
from prx_scale.models.encoders.identity import EncoderIdentity, check_same, content_of, hash_file
from prx_scale.models.encoders.locating import Located, locate
from prx_scale.models.encoders.registry import IMAGE, TEXT
from prx_scale.models.encoders.weightfiles import weight_files

ROOT = Path(__file__).parents[3]


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def pipeline(folder: Path) -> Path:
    for number in ("", "_2", "_3"):
        write(folder / f"text_encoder{number}", config__json="{}", model__safetensors=f"weights{number}")
        write(folder / f"tokenizer{number}", tokenizer__json="{}")
    write(folder / "vae", config__json="{}", diffusion_pytorch_model__safetensors="vae")
    write(folder / "transformer", config__json="{}", diffusion_pytorch_model__safetensors="large")
    return write(folder, model_index__json="{}", sd3__safetensors="all of it in one file")


def test_a_pipeline_holds_encoders_by_their_place(tmp_path: Path) -> None:
    folder = pipeline(tmp_path)
    for name, number in (("clip-l", ""), ("clip-g", "_2"), ("t5", "_3")):
        found = locate(TEXT[name], str(folder))
        assert found == Located(model=folder / f"text_encoder{number}", tokenizer=folder / f"tokenizer{number}")
    assert locate(IMAGE["sd3"], str(folder)) == Located(model=folder / "vae")
    assert locate(TEXT["t5"], str(folder / "text_encoder_2")).tokenizer == folder / "tokenizer_2"


def test_a_missing_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}/none: no such folder, and not a hub id"):
        locate(TEXT["t5"], str(tmp_path / "none"))
    with pytest.raises(
        InputError, match=rf"looked for {tmp_path}/config.json and {tmp_path}/text_encoder_3/config.json"
    ):
        locate(TEXT["t5"], str(tmp_path))
    write(tmp_path, config__json="{}")
    with pytest.raises(InputError, match=r"no tokenizer of 't5'; looked for tokenizer.json or"):
        locate(TEXT["t5"], str(tmp_path))
    with pytest.raises(InputError, match="'kl-8' has no published weights; name a folder"):
        locate(IMAGE["kl-8"])


def find(source: str, home: Path, **environment: str) -> str:
    """What `locate` says in a process of its own, where the hub's settings are read anew."""
    code = (
        "import sys\nfrom prx_scale.errors import InputError\nfrom prx_scale.models.encoders.locating import locate\n"
        "from prx_scale.models.encoders.registry import TEXT\n"
        "try:\n    print(locate(TEXT['clip-g'], sys.argv[1]))\n"
        "except InputError as error:\n    print('InputError', error)"
    )
    foreign = ("HF_", "TRANSFORMERS_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    done = subprocess.run(
        [sys.executable, "-c", code, source],
        env=kept | {"HF_HOME": str(home), "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_hub_gives_an_encoder_and_no_more(tmp_path: Path) -> None:
    pipeline(tmp_path / "hub" / "owner" / "pipe")
    write(tmp_path / "hub" / "owner" / "pipe" / "text_encoder_2", model__fp16__safetensors="less precise")
    write(tmp_path / "hub" / "owner" / "old", config__json="{}", vocab__json="{}", pytorch_model__bin="pickled")
    home = tmp_path / "home"
    with serve(tmp_path / "hub") as (endpoint, fetched):
        for source in ("owner/pipe", "owner/pipe/text_encoder_2"):
            found = find(source, home, HF_ENDPOINT=endpoint)
            assert f"snapshots/{COMMIT}/text_encoder_2" in found and f"snapshots/{COMMIT}/tokenizer_2" in found
        weights = [name for name in fetched if name.endswith(".safetensors")]
        assert weights == ["text_encoder_2/model.safetensors"]
        assert f"snapshots/{COMMIT}'" in find("owner/old", home, HF_ENDPOINT=endpoint)
        assert "pytorch_model.bin" in fetched
        assert "the hub does not give" in find("owner/none", home, HF_ENDPOINT=endpoint)
    # Later without a network, from the cache.
    assert f"snapshots/{COMMIT}/text_encoder_2" in find("owner/pipe", home, HF_HUB_OFFLINE="1")
    refused = find("owner/other", home, HF_HUB_OFFLINE="1")
    assert "owner/other: no such folder, HF_HUB_OFFLINE is set, and the hub's cache" in refused


def test_content_does_not_depend_on_the_place_or_on_bookkeeping(tmp_path: Path) -> None:
    config = {"model_type": "t5", "d_model": 8, "nested": {"dtype": "float32", "x": 1}}
    other = {**config, "transformers_version": "9", "_name_or_path": "/x", "nested": {"dtype": "bfloat16", "x": 1}}
    first = write(tmp_path / "a", config__json=json.dumps(config), model__safetensors="w", tokenizer__json="t")
    second = write(tmp_path / "b", config__json=json.dumps(other), model__safetensors="w", tokenizer__json="t")
    cache = tmp_path / "cache"
    found = [content_of(Located(model=each, tokenizer=each), cache) for each in (first, second)]
    assert found[0] == found[1]
    assert sorted(found[0]) == ["model/config.json", "model/model.safetensors", "tokenizer/tokenizer.json"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"d_model": 9}'),
        ("model.safetensors", "v"),
        ("tokenizer.json", "u"),
        ("merges.txt", "a b"),
    ],
)
def test_content_depends_on_every_file(tmp_path: Path, name: str, content: str) -> None:
    folder = write(tmp_path / "a", config__json='{"d_model": 8}', model__safetensors="w", tokenizer__json="t")
    before = content_of(Located(model=folder, tokenizer=folder), tmp_path / "cache")
    (folder / name).write_text(content)
    assert content_of(Located(model=folder, tokenizer=folder), tmp_path / "cache") != before


def test_the_files_that_are_loaded_are_those_that_count(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no weights; looked for model.safetensors, diffusion_pytorch_model.safetens"):
        weight_files(tmp_path)
    write(tmp_path, pytorch_model__bin="p")
    assert [file.name for file in weight_files(tmp_path)] == ["pytorch_model.bin"]
    index = {"weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors", "c": "x"}}
    write(tmp_path, model__safetensors__index__json=json.dumps(index))
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "x"]
    assert [file.name for file in weight_files(tmp_path)] == names
    write(tmp_path, model__safetensors="s")
    assert [file.name for file in weight_files(tmp_path)] == ["model.safetensors"]
    (tmp_path / "model.safetensors").unlink()
    write(tmp_path, model__safetensors__index__json="[]")
    with pytest.raises(InputError, match="not an index of weights"):
        weight_files(tmp_path)


def test_known_hashes_are_used_while_a_file_is_the_same(tmp_path: Path) -> None:
    file, cache = tmp_path / "weights", tmp_path / "cache"
    file.write_bytes(b"a" * 1000)
    hash_file(file, cache)
    assert not cache.exists(), "it has just changed, and may change again within the same tick"
    os.utime(file, (1e9, 1e9))
    found = hash_file(file, cache)
    (entry,) = cache.iterdir()
    assert entry.read_text() == found == "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"
    entry.write_text("from the cache")
    assert hash_file(file, cache) == "from the cache"
    os.utime(file, (2e9, 1e9 + 1))
    assert hash_file(file, cache) == found
    file.write_bytes(b"b" * 1001)
    os.utime(file, (1e9, 1e9))
    assert hash_file(file, cache) not in (found, "from the cache")


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    file, blocked = tmp_path / "weights", tmp_path / "blocked"
    file.write_bytes(b"a")
    os.utime(file, (1e9, 1e9))
    blocked.write_text("a file where a folder is wanted")
    assert hash_file(file, blocked) == hash_file(file)
    with pytest.raises(InputError, match="cannot be read"):
        hash_file(tmp_path / "none")


IDENTITY = EncoderIdentity(
    name="t5", kind="t5", files={"model/model.safetensors": "aa" * 32}, settings={"tokens": 77, "cleaning": "none"}
)


def test_an_identity_survives_json() -> None:
    content = json.loads(json.dumps(IDENTITY.to_json()))
    again = EncoderIdentity.from_json(content, "index.json: text.t5")
    assert again == IDENTITY and again.hash == IDENTITY.hash
    content["settings"]["tokens"] = 256
    with pytest.raises(InputError, match=r"index\.json: text\.t5: damaged"):
        EncoderIdentity.from_json(content, "index.json: text.t5")
    with pytest.raises(InputError, match="not the identity of an encoder"):
        EncoderIdentity.from_json({"name": "t5"}, "index.json: text.t5")


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        (replace(IDENTITY, settings={"tokens": 256, "cleaning": "none"}), "setting tokens '77', not '256'"),
        (replace(IDENTITY, settings={"tokens": 77}), "setting cleaning 'none', not none"),
        (replace(IDENTITY, files={"model/model.safetensors": "bb" * 32}), r"'aaaaaaaaaaaa\.\.\.', not 'bbbbbbbbbbbb"),
        (replace(IDENTITY, kind="t5gemma"), "an encoder of kind t5, not t5gemma"),
    ],
)
def test_what_was_made_otherwise_is_refused(ours: EncoderIdentity, message: str) -> None:
    with pytest.raises(InputError, match=f"store: made by 't5'.* {message}"):
        check_same(IDENTITY, ours, "store")
    check_same(IDENTITY, replace(IDENTITY, name="t5-of-mine"), "store")

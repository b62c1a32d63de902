"""`prx-scale encode` with tiny encoders made on the spot: what is stored, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import encoding
import numpy as np
import pytest
import torch
from dying import DyingSource
from made import CC12M

from prx_scale.cli import parse, run
from prx_scale.commands import encode_output
from prx_scale.commands.encode import Encode
from prx_scale.commands.encode_output import EncodeWatcher, console
from prx_scale.data.buckets import BucketTable
from prx_scale.data.decode import open_image
from prx_scale.data.encoding.encoders import IMAGES_AT_ONCE
from prx_scale.data.encoding.estimate import sizes, totals
from prx_scale.data.encoding.parts import Part, part_of
from prx_scale.data.encoding.plan import Asked, plan
from prx_scale.data.encoding.preparing import framed
from prx_scale.data.encoding.running import encode
from prx_scale.data.framing import frame
from prx_scale.data.samples import RawSample
from prx_scale.data.sources import Fields, open_source
from prx_scale.data.store import Expected, Store, layout
from prx_scale.data.store.packing import moments_of, states_of, unpack
from prx_scale.data.store.recipe import DataName
from prx_scale.data.stored import latent_scale
from prx_scale.errors import InputError
from prx_scale.models.encoders.batches import encode_images, encode_text
from prx_scale.models.encoders.declared import sized_text
from prx_scale.models.encoders.image.load import load_image
from prx_scale.models.encoders.registry import TEXT
from prx_scale.models.encoders.text.load import load_text
from prx_scale.models.encoders.text.together import TextEncoders

TEXTS = ("clip-l", "clip-g", "t5", "t5gemma")
NONE = BucketTable(rule="sd3", step=48, min_ratio=0.9, max_ratio=1.1)
DAMAGED, SMALL = 7, (4, 10, 16, 22)
"""Samples by their name."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoding.write_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoding.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def made(data: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, made by one process in one go."""
    out = tmp_path_factory.mktemp("made") / "store"
    assert run(encoding.words(data, out, models, text=TEXTS)) == 0
    return out


def names(store: Store) -> list[int]:
    """The n of the sample n<n> of each number."""
    keys = [
        json.loads(line)["key"] if line.startswith("{") else line
        for shard in range(store.recipe.shards)
        for line in _keys(layout.shard_file(store.folder, shard, "parquet"))
    ]
    return [int(key.rsplit("/n", 1)[1]) for key in keys]


def _keys(file: Path) -> list[str]:
    import polars as pl

    return pl.read_parquet(file)["key"].to_list()


def raw(data: Path, number: int) -> RawSample:
    """A sample as it lies in the data."""
    fields = Fields(captions={"original": "txt", "long": "long"})
    for item in (each for shard in range(3) for each in open_source(str(data), fields).samples(shard)):
        if isinstance(item, RawSample) and item.key.endswith(f"/n{number}"):
            return item
    raise AssertionError(number)


def test_what_is_stored_is_what_encoders_give(made: Path, data: Path, models: Path) -> None:
    store = Store.open(made)
    store.verify()
    view, who = store.at(64), names(store)
    encoder = load_image("sd3", str(models))
    text = [load_text(sized_text(TEXT[name], _folder(models, name)), str(_source(models, name))) for name in TEXTS]
    together = TextEncoders(text, store.recipe.inputs())
    for number in np.flatnonzero(view.assigned >= 0)[::5].tolist():
        sample = raw(data, who[number])
        opened = open_image(sample)
        assert not hasattr(opened, "reason")
        framing = frame(opened.size, view.buckets[view.assigned[number]])  # type: ignore[union-attr]
        batch = view.batch(np.array([number]), np.array([0]))
        assert batch.conditioning[0].tolist() == list(framing.conditioning)
        pixels = framed(opened, framing)  # type: ignore[arg-type]
        planes = torch.from_numpy(np.stack([pixels] * IMAGES_AT_ONCE)).permute(0, 3, 1, 2).contiguous()
        right = encode_images(encoder, planes).on_channels()[:1].to(torch.bfloat16)
        assert torch.equal(unpack(batch.latents), right)
        context, states = states_of(batch, store.recipe.inputs()), encode_text(together, [sample.captions["original"]])
        assert torch.allclose(context.tokens.float(), states.tokens.float(), atol=0.02, rtol=0.02)
        assert torch.allclose(context.pooled.float(), states.pooled.float(), atol=0.02, rtol=0.02)
        assert context.mask is not None and states.mask is not None and torch.equal(context.mask, states.mask)


def _source(models: Path, name: str) -> Path:
    return models / "t5gemma" if name == "t5gemma" else models


def _folder(models: Path, name: str) -> Path:
    return models / "t5gemma" if name == "t5gemma" else models / TEXT[name].folder


def test_what_is_left_out_is_said(made: Path) -> None:
    store = Store.open(made)
    who = names(store)
    without = {who[number] for number in np.flatnonzero(store.at(64).assigned < 0)}
    assert without == {DAMAGED, *SMALL}
    assert [json.loads(line)["key"] for line in (made / layout.SKIPPED).read_text().splitlines()] == ["0001.tar/n7"]
    assert store.index["left_out"]["truncated image"] == 1 and store.index["left_out"]["too small for 64"] == 4
    long = store.available(np.arange(26), ("long",))[:, 0]
    assert [who[number] for number in np.flatnonzero(long)] == [n for n in who if n % 3 == 0 and n not in without]


@pytest.mark.slow
def test_processes_and_parts_change_no_byte(made: Path, data: Path, models: Path, tmp_path: Path) -> None:
    assert run(encoding.words(data, tmp_path / "two", models, "--processes", "2", text=TEXTS)) == 0
    assert encoding.content(tmp_path / "two") == encoding.content(made)
    for part in ("2/3", "1/3"):
        assert run(encoding.words(data, tmp_path / "parts", models, "--part", part, text=TEXTS)) == 0
        with pytest.raises(InputError, match="not finished"):
            Store.open(tmp_path / "parts")
    assert run(encoding.words(data, tmp_path / "parts", models, "--part", "3/3", text=TEXTS)) == 0
    assert encoding.content(tmp_path / "parts") == encoding.content(made)


@pytest.mark.slow
def test_a_killed_encode_goes_on(
    made: Path, data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "store"
    process = encoding.start(encoding.words(data, out, models, "--shard-size", "1"))
    deadline = time.monotonic() + 100
    while not list(out.glob("shards/*/*.json")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    told, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, told
    check_going_on(made, out, encoding.words(data, out, models, "--shard-size", "1"), capsys)


def test_a_stopped_encode_goes_on(
    made: Path, data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "store"

    def stop_soon() -> None:
        while not list(out.glob("shards/*/*.json")):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_soon)
    thread.start()
    assert run(encoding.words(data, out, models, "--shard-size", "1")) == 130
    thread.join()
    there = len(list(out.glob("shards/*/*.json")))
    assert f"stopped: {there} of 26 shards of {out} are written" in capsys.readouterr().out
    check_going_on(made, out, encoding.words(data, out, models, "--shard-size", "1"), capsys)


def check_going_on(made: Path, out: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The same command keeps what is there, and the result is that of one that was never stopped."""
    there = {file: file.stat().st_mtime_ns for file in out.glob("shards/*/*.json")}
    assert 0 < len(there) < 26
    assert run(words) == 0
    assert f"{len(there)} of 26 shards are there; goes on" in capsys.readouterr().out
    assert all(file.stat().st_mtime_ns == at for file, at in there.items())
    assert not list(out.rglob("*.part"))
    Store.open(out).verify()
    whole, resumed = Store.open(made).at(64), Store.open(out).at(64)
    assert np.array_equal(whole.assigned, resumed.assigned)
    for bucket in range(len(whole.buckets)):
        if len(numbers := np.flatnonzero(whole.assigned == bucket)):
            assert np.array_equal(whole.batch(numbers).latents.bits, resumed.batch(numbers).latents.bits)


@pytest.mark.slow
def test_others_go_on_where_a_process_is_killed(data: Path, models: Path, made: Path, tmp_path: Path) -> None:
    job, _ = _verb(encoding.words(data, tmp_path / "store", models, text=TEXTS))._job()
    dying = replace(job, source=DyingSource(job.source, place=6, times=3, marker=tmp_path / "read"))
    # Two times are for the estimate.
    with EncodeWatcher(dying, 2, console(), force=False) as watcher:
        done = encode(dying, watcher, processes=2, max_skipped=1)
    assert [failed.shard for failed in done.failures] == [1] and "SIGKILL" in done.failures[0].why
    assert done.left == (1,) and done.made == 5 and not done.finished
    assert run(encoding.words(data, tmp_path / "store", models, text=TEXTS)) == 0
    assert encoding.content(tmp_path / "store") == encoding.content(made)


def _verb(words: list[str]) -> Encode:
    verb = parse(words)
    assert isinstance(verb, Encode)
    return verb


def test_a_damaged_shard_is_named_and_made_again(
    data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = encoding.words(data, tmp_path, models)
    assert run(words) == 0
    whole = encoding.content(tmp_path)
    file = layout.shard_file(tmp_path, 2, "safetensors")
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 255
    file.write_bytes(changed)
    with pytest.raises(InputError, match=r"000002\.safetensors: its content is not what was written"):
        Store.open(tmp_path).verify()
    assert run(words) == 0, "without --verify only sizes are looked at"
    assert encoding.content(tmp_path) != whole
    assert run([*words, "--verify"]) == 0
    assert "made again: " in capsys.readouterr().out
    assert encoding.content(tmp_path) == whole
    file.write_bytes(changed[:-10])
    assert run(words) == 0
    assert encoding.content(tmp_path) == whole


def test_other_weights_and_options_are_refused(
    made: Path, data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = encoding.write_kl(tmp_path / "other" / "vae", channels=16, scale=2.0).parent
    changed = encoding.with_other_weights(models / "vae", tmp_path / "changed" / "vae").parent
    words = encoding.words(data, made, models, text=TEXTS)
    for change, said in (
        (["--precision", "float32"], "image.identity.settings.dtype"),
        (["--image-encoder", f"sd3={changed}"], "image.identity.files.model/diffusion_pytorch_model.safetensors"),
        (["--resolution", "48"], "resolutions.0.image_size 48, there 64"),
        (["--text-dtype", "fp8"], 'states "fp8", there "bf16"'),
        (["--resolution", "64", "128"], "resolutions 64 pixels, 128 pixels, there 64 pixels"),
        (["--stretch", "0.2"], "preprocessing.stretch 0.2, there 0.05"),
    ):
        assert run([*words, *change]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    identity = load_image("kl-16", str(other)).identity()
    with pytest.raises(InputError, match="latents: made by 'sd3' with"):
        Store.open(made, Expected(image=identity))
    Store.open(made, Expected(image=load_image("sd3", str(models)).identity(), image_size=64, kinds=("long",)))


def test_other_options_give_other_stores(data: Path, models: Path, tmp_path: Path) -> None:
    templates = ["--class-templates", "a photo of a {class}", "--label", "txt"]
    words = encoding.words(data, tmp_path, models, "--resolution", "32", "64", "--dtype", "fp8", *templates)
    assert run([*words, "--pooled-only", "--text-encoders", f"clip-l={models}"]) == 0
    store = Store.open(tmp_path, Expected(text=("clip-l",), tokens=False, latents="fp8", states="fp8"))
    who = names(store)
    small, large = store.at(32).assigned, store.at(64).assigned
    assert {who[n] for n in np.flatnonzero(small < 0)} == {DAMAGED, *SMALL}
    assert np.array_equal(small < 0, large < 0) and store.kinds == ("original", "long", "class")
    number = int(np.flatnonzero(large >= 0)[0])
    batch = store.at(32).batch(np.array([number]), np.array([2]))
    assert batch.bucket in store.at(32).buckets and batch.states["clip-l"].tokens is None
    assert store.captions(np.array([number]))[0]["class"] == f"a photo of a a cat {who[number] % 9}"
    found, right = moments_of(batch, 16), moments_of(store.at(64).batch(np.array([number])), 16)
    assert found.mean.shape[-2:] != right.mean.shape[-2:] and found.mean.isfinite().all()


def test_an_autoencoder_without_a_scale_is_encoded_and_measured(data: Path, models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "vae", tmp_path / "vae")
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    del config["scaling_factor"]
    (tmp_path / "vae" / "config.json").write_text(json.dumps(config))
    words = [*encoding.words(data, tmp_path / "store", models), "--text-encoders", "--image-encoder"]
    assert run([*words, f"repa-e={tmp_path}"]) == 0
    store = Store.open(tmp_path / "store")
    assert latent_scale(store) == store.statistics(64).scale() and store.recipe.image_spec.scale is None


def test_latents_alone_keep_captions_as_text(data: Path, models: Path, tmp_path: Path) -> None:
    assert run([*encoding.words(data, tmp_path, models), "--text-encoders"]) == 0
    store = Store.open(tmp_path)
    numbers = np.flatnonzero(store.at(64).assigned == store.at(64).assigned[0])
    batch = store.at(64).batch(numbers)
    assert not batch.states and store.available(numbers, ("original",)).all()
    assert [each["original"] for each in store.captions(numbers)] == [f"a cat {names(store)[n] % 9}" for n in numbers]


def write_filter(folder: Path, data: Path, keep: np.ndarray) -> Path:
    """The result of a filter, as far as encoding reads it."""
    source = open_source(str(data))
    folder.mkdir()
    np.save(folder / "keep.npy", keep)
    np.save(folder / "weight.npy", keep.astype(np.float32))
    info = {
        "schema": 1,
        "identity": "abc",
        "source": {"fingerprint": source.fingerprint()},
        "shards": [[name, count] for name, count in zip(source.shards, source.counts().tolist(), strict=True)],
        "counts": {"kept": int(keep.sum())},
    }
    (folder / "manifest.json").write_text(json.dumps(info))
    return folder


def test_a_filter_leaves_samples_out(
    data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = np.arange(26) % 4 != 1
    folder = write_filter(tmp_path / "filtered", data, keep)
    words = encoding.words(data, tmp_path / "store", models, text=("clip-l",))
    assert run([*words, "--filter", str(folder)]) == 0
    assert "19 of 26 samples" in capsys.readouterr().out
    store = Store.open(tmp_path / "store")
    assert not (store.at(64).assigned[~keep] >= 0).any() and (store.at(64).assigned[keep] >= 0).sum() > 12
    assert store.index["left_out"]["filtered"] == 7 and store.recipe.data.filter == "abc"
    assert run(words) == 2
    assert "data.filter" in capsys.readouterr().err


def test_a_part_of_which_a_filter_kept_nothing(
    data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write_filter(tmp_path / "few", data, np.arange(26) < 3)
    words = encoding.words(data, tmp_path / "store", models, text=("clip-l",))
    for part in ("2/2", "1/2"):
        assert run([*words, "--filter", str(few), "--part", part]) == 0
    assert (Store.open(tmp_path / "store").at(64).assigned >= 0).sum() == 3
    none = write_filter(tmp_path / "none", data, np.zeros(26, dtype=bool))
    capsys.readouterr()
    assert run([*encoding.words(data, tmp_path / "other", models), "--filter", str(none)]) == 2
    assert "keeps none of the 26 samples; filter with other cuts" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "other").exists()


def test_too_much_that_cannot_be_used_ends_it(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = encoding.write_bad_data(tmp_path / "data", samples=1200, every=10)
    words = encoding.words(folder, tmp_path / "store", models, "--shard-size", "100", text=("clip-l",))
    assert run([*words, "--max-skipped", "0.09"]) == 2
    assert "100 of 1,000 samples left out: 100 unknown format; that is 10.0%" in capsys.readouterr().err
    assert run([*words, "--max-skipped", "0.11"]) == 0
    assert "120 unknown format" in capsys.readouterr().out


def test_a_store_without_latents_is_not_finished(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What no image size or filter is to blame for is said with an example."""
    folder = encoding.write_bad_data(tmp_path / "data", samples=12, every=1)
    words = encoding.words(folder, tmp_path / "store", models, text=())
    for _ in range(2):
        assert run(words) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert "none of the 12 samples has latents: 12 unknown format; 0.tar/n0: begins with" in told
        assert not (tmp_path / "store" / layout.INDEX).exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--min-ratio", "3"), "--min-ratio: 3.0 is too large; at most 1"),
        (("--max-upscaling", "0"), "--max-upscaling: 0.0 is too small; at least 1"),
        (("--bucket-step", "-1"), "--bucket-step: -1 is too small; at least 0"),
        (("--device", "banana"), "--device: 'banana' is no device; cpu, cuda or cuda:1 is right"),
        (("--device", "cuda:99"), "device cuda:99: this machine has"),
        (("--resolution", "100"), "image_size 100 is not a multiple of the 16 pixels of a token; 96 and 112 are"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    data: Path, models: Path, tmp_path: Path, more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(encoding.words(data, tmp_path / "store", models, *more)) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "store").exists()


def test_a_place_that_cannot_be_written_to_is_said(
    data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("here before")
    assert run(encoding.words(data, tmp_path / "file", models)) == 2
    assert "file: is there and no store; choose another --out" in " ".join(capsys.readouterr().err.split())
    words = encoding.words(data, tmp_path / "file" / "store", models, text=("clip-l",))
    assert run(words) == 2
    assert "file/store: cannot be written (" in " ".join(capsys.readouterr().err.split())


def test_a_dry_run_says_size_and_time_and_writes_nothing(
    data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(encoding.words(data, tmp_path / "store", models, "--dry-run")) == 0
    told = capsys.readouterr().out
    assert "text states of t5, 2 captions" in told and "ms a sample" in told and "6 shards of 5 samples" in told
    assert not (tmp_path / "store").exists()


def test_json_for_programs(data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = encoding.words(data, tmp_path / "store", models, "--json", "-", text=("clip-l",))
    assert run([*words, "--dry-run"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == 26 and told["shards"] == 6
    assert told["time"]["seconds"] == pytest.approx(26 * told["time"]["seconds_each"])
    assert run(words) == 0
    told = json.loads(capsys.readouterr().out)
    store = Store.open(tmp_path / "store")
    files = [file for file in store.folder.rglob("*") if file.is_file() and file.parent.parent.name == "shards"]
    content = [file for file in files if file.suffix != ".json"]
    beside = [store.folder / name for name in store.index["files"]]
    assert told["result"]["finished"] and told["result"]["made"] == 6 and told["result"]["missing"] == []
    assert told["result"]["bytes"] == sum(file.stat().st_size for file in (*content, *beside))
    assert sum(told["result"]["counts"]["64"].values()) == 26 - 1 - len(SMALL)
    (latents, texts) = told["stored"]
    assert latents["all"] == 26 * latents["each"] and "clip-l" in texts["what"]


def test_a_disk_without_room_is_refused(
    data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_output, "free_bytes", lambda folder: 1000)
    words = encoding.words(data, tmp_path / "store", models, text=("clip-l",))
    assert run(words) == 2
    assert "and 1 kB are free; choose another disk" in " ".join(capsys.readouterr().err.split())
    assert run([*words, "--force"]) == 0


def test_sizes_of_the_published_encoders() -> None:
    """Bytes of SD3's three text encoders as the paper counts them, and of CC12M's 11 million images."""
    data = DataName(spec="cc12m", fingerprint="", samples=11_000_000)
    found = plan(Asked(image="sd3", text=("clip-l", "clip-g", "t5")), data).draft
    each = {size.what: size.now for size in sizes(found)}
    assert each["latents of 256 pixels"] == 2 * 16 * 32 * 32 * 2
    assert each["text states of clip-l"] == 77 * 768 * 2 + 768 * 2
    assert each["text states of t5"] == 77 * 4096 * 2
    assert found.shard_size == 512
    every = totals(sizes(found))
    assert every["all"] * data.samples == pytest.approx(11.17e12, rel=0.01)
    assert every["text, fp8"] == pytest.approx(every["text"] / 2, rel=0.01)
    assert every["text, pooled"] == 2 * (768 + 1280)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(image="sd4"), "'sd4' is not an image encoder"),
        (Asked(image="sd3", text=("t6",)), "'t6' is not a text encoder"),
        (Asked(image="sd3", text=("t5", "t5=a")), "named twice"),
        (Asked(image="sd3", text=("t5",), pooled_only=True), "'t5' gives no pooled state"),
        (Asked(image="sd3", image_sizes=(250,)), "not a multiple of the 16 pixels"),
        (Asked(image="sd3", image_sizes=(64, 64)), "each once"),
        (Asked(image="sd3", image_sizes=(64,), buckets=NONE), "no size in steps of 48 pixels has a ratio"),
        (Asked(image="dc-ae", buckets=BucketTable(rule="prx")), "step: 32 is not a multiple of the 64 pixels"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: Asked, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan(asked, DataName(spec="a", fingerprint="b", samples=3))


def test_parts_make_up_a_whole() -> None:
    for total in (0, 1, 7, 100):
        for count in (1, 3, 8):
            shards = [shard for n in range(count) for shard in Part(number=n + 1, count=count).shards(total)]
            assert shards == list(range(total))
    array = {f"SLURM_ARRAY_TASK_{name}": value for name, value in (("MIN", "4"), ("MAX", "10"), ("STEP", "2"))}
    assert part_of("", {**array, "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_ID": "8"}) == Part(number=3, count=4)
    assert part_of("3/8", {**array, "SLURM_ARRAY_TASK_ID": "8"}) == Part(number=3, count=8)
    assert part_of("", {}) == Part()
    with pytest.raises(InputError, match="not all of them run"):
        part_of("", {**array, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_ID": "8"})
    for wrong in ("0/3", "4/3", "a/3", "3", "1/0"):
        with pytest.raises(InputError, match=f"'{wrong}' is no part"):
            part_of(wrong, {})


@pytest.mark.skipif(not CC12M.exists(), reason="no real photographs here")
def test_photographs(models: Path, tmp_path: Path) -> None:
    words = ["encode", str(CC12M), "--out", str(tmp_path), "--image-encoder", f"sd3={models}", "--resolution", "64"]
    buckets = ["--buckets", "prx", "--bucket-step", "16", "--text-encoders", f"t5gemma={models / 't5gemma'}"]
    assert run([*words, *buckets]) == 0
    store = Store.open(tmp_path)
    assert len(store) == 32 and (store.at(64).assigned >= 0).all()
    assert store.index["captions"] == {"original": 32}
    bucket = int(np.bincount(store.at(64).assigned).argmax())
    batch = store.at(64).batch(np.flatnonzero(store.at(64).assigned == bucket), None)
    assert moments_of(batch, 16).mean.isfinite().all()
    assert os.path.getsize(layout.shard_file(tmp_path, 0, "safetensors")) < 2_000_000

"""Stores of latents and text states: what was written is read, in every number type, and damage is named."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import storereading
import stores
import torch

from prx_scale.data.store import Expected, Store, layout
from prx_scale.data.store.bytesizes import latent_bytes, text_bytes
from prx_scale.data.store.differences import differences
from prx_scale.data.store.finishing import begin, finish, forget, missing
from prx_scale.data.store.packing import moments_of, pack, states_of, unpack
from prx_scale.data.store.recipe import Recipe
from prx_scale.data.store.storage import Storage
from prx_scale.data.store.tensorfile import TensorFile
from prx_scale.data.store.writing import Tensor, write_tensors
from prx_scale.errors import InputError
from prx_scale.models.encoders.identity import EncoderIdentity

EXACT: dict[Storage, float] = {"bf16": 2**-8, "fp16": 2**-10, "fp8": 2**-4}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "store"
    stores.make(folder)
    return folder


def numbers_in(bucket: int, count: int = 23) -> np.ndarray:
    return np.array([number for number in range(count) if stores.bucket_of(number) == bucket])


@pytest.mark.parametrize("storage", EXACT)
@pytest.mark.parametrize("bucket", range(3))
def test_what_was_written_is_read(tmp_path: Path, storage: Storage, bucket: int) -> None:
    stores.make(tmp_path / "s", stores.recipe(latents=storage, states=storage))
    store = Store.open(tmp_path / "s")
    numbers = numbers_in(bucket)[::-1].copy()  # shards out of order
    kinds = np.array([store.kinds.index(stores.kinds_of(number)[-1]) for number in numbers.tolist()])
    batch = store.at(32).batch(numbers, kinds)
    assert batch.bucket == stores.BUCKETS[bucket]
    assert batch.conditioning[:, 3].tolist() == numbers.tolist()
    found = moments_of(batch, 4)
    assert found.std is not None
    right = torch.stack([stores.moments(number, bucket) for number in numbers.tolist()])
    bound = EXACT[storage] * (right.abs().amax(dim=(2, 3), keepdim=True) / 16 + right.abs())
    assert ((torch.cat([found.mean, found.std], dim=1).float() - right).abs() <= bound).all()
    for row, (number, kind) in enumerate(zip(numbers.tolist(), kinds.tolist(), strict=True)):
        text = stores.caption(number, store.kinds[kind])
        for spec in (stores.CLIP, stores.GEMMA):
            tokens, pooled = stores.text_states(text, spec)
            states = batch.states[spec.name]
            assert states.tokens is not None
            values = unpack(states.tokens)[row].float()
            assert torch.allclose(values[: len(tokens)], tokens, atol=3 * EXACT[storage], rtol=EXACT[storage])
            assert not values[len(tokens) :].any()
            assert (states.lengths is None) == (not spec.masked)
            assert states.lengths is None or states.lengths[row] == len(tokens)
            assert (states.pooled is None) == (not spec.pooled)
            if states.pooled is not None:
                read = unpack(states.pooled)[row].float()
                assert torch.allclose(read, pooled, atol=3 * EXACT[storage], rtol=EXACT[storage])


def test_states_are_laid_into_the_context_of_a_backbone(made: Path) -> None:
    store = Store.open(made)
    inputs = store.recipe.inputs()
    numbers = numbers_in(1)
    kinds = np.full(len(numbers), -1)
    kinds[0] = 0
    context = states_of(store.at(32).batch(numbers, kinds), inputs)
    assert context.tokens.shape == (len(numbers), inputs.text_tokens, inputs.context_dim)
    assert context.mask is not None and context.mask.shape == context.tokens.shape[:2]
    empty, _ = stores.text_states("", stores.CLIP)
    low, high = inputs.encoders[0].channels
    first, last = inputs.encoders[0].tokens
    assert torch.equal(context.tokens[1, first:last, low:high], empty.to(torch.bfloat16))
    text, _ = stores.text_states(stores.caption(int(numbers[0]), "original"), stores.CLIP)
    assert torch.equal(context.tokens[0, first:last, low:high], text.to(torch.bfloat16))


def test_buckets_and_kinds_of_all_samples(made: Path) -> None:
    store = Store.open(made)
    view = store.at(32)
    assert view.assigned.tolist() == [stores.bucket_of(number) for number in range(23)]
    assert store.bounds.tolist() == [0, 8, 16, 23]
    assert store.blocks(16).tolist() == [0, 16] and store.blocks(1).tolist() == [0, 8, 16]
    usable = np.flatnonzero(view.assigned >= 0)
    has = store.available(usable, ("long", "original"))
    assert has.tolist() == [[kind in stores.kinds_of(n) for kind in ("long", "original")] for n in usable]
    assert view.with_captions(("long",)).tolist() == [
        stores.bucket_of(n) if "long" in stores.kinds_of(n) else -1 for n in range(23)
    ]
    assert store.captions(np.array([21, 0, 7])) == [
        {kind: stores.caption(n, kind) for kind in stores.kinds_of(n)} for n in (21, 0, 7)
    ]
    index = json.loads((made / layout.INDEX).read_text())
    assert index["counts"]["32"] == {
        bucket.name: len(numbers_in(number)) for number, bucket in enumerate(stores.BUCKETS)
    }
    assert index["left_out"]["corrupt image"] == 4
    assert len((made / layout.SKIPPED).read_text().splitlines()) == 4


def test_statistics_are_those_of_all_latents(made: Path) -> None:
    found = Store.open(made).statistics(32)
    means = [stores.moments(n, stores.bucket_of(n))[:4].flatten(1) for n in range(23) if stores.bucket_of(n) >= 0]
    whole = torch.cat(means, dim=1).double()
    assert found.count == whole.shape[1]
    assert np.allclose(found.mean, whole.mean(dim=1), atol=1e-6)


def test_files_are_those_of_the_format(made: Path) -> None:
    from safetensors.torch import load_file

    found = load_file(layout.shard_file(made, 1, "safetensors"))
    bucket = stores.BUCKETS[1].name
    numbers = [n for n in range(8, 16) if stores.bucket_of(n) == 1]
    right = torch.stack([stores.moments(n, 1) for n in numbers]).to(torch.bfloat16)
    assert torch.equal(found[layout.latents(32, bucket)], right)
    assert found[layout.tokens("clip-l")].dtype == torch.bfloat16


def test_a_caption_that_comes_twice_is_stored_once(made: Path) -> None:
    file = TensorFile(layout.shard_file(made, 1, "safetensors"))
    texts = {stores.caption(n, kind) for n in range(8, 16) if stores.bucket_of(n) >= 0 for kind in stores.kinds_of(n)}
    assert file.entries[layout.pooled("clip-l")].shape[0] == len(texts) + 1
    file.close()


def test_the_same_content_is_the_same_bytes(made: Path, tmp_path: Path) -> None:
    stores.make(tmp_path / "again")
    files = sorted(each.relative_to(made) for each in made.rglob("*") if each.is_file())
    assert files == sorted(each.relative_to(tmp_path / "again") for each in (tmp_path / "again").rglob("*.*"))
    assert all((made / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files)


def test_wrong_batches_are_refused(made: Path) -> None:
    view = Store.open(made).at(32)
    for numbers, said in (([0, 1], "one bucket"), ([4, 9], "one bucket"), ([23], "samples 0 to 22")):
        with pytest.raises((InputError, IndexError), match=said if numbers != [23] else None):
            view.batch(np.array(numbers))
    with pytest.raises(InputError, match="lacks the kind"):
        view.batch(np.array([2]), np.array([0]))
    with pytest.raises(InputError, match="has no latents of 64 pixels, only of 32"):
        Store.open(made).at(64)
    with pytest.raises(InputError, match="kind 'short' are not encoded, only original, long"):
        Store.open(made).available(np.array([0]), ("short",))


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_other_processes_read_for_themselves(made: Path, how: str) -> None:
    store, numbers = Store.open(made), numbers_in(2)
    here = store.at(32).batch(numbers).latents.bits.tobytes()
    context = multiprocessing.get_context(how)
    answers = context.SimpleQueue()
    processes = [context.Process(target=storereading.read, args=(store, numbers, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [answers.get() for _ in processes] == [(here, how == "fork")] * 2
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert pickle.loads(pickle.dumps(store)).at(32).batch(numbers).latents.bits.tobytes() == here


def test_open_files_are_bounded(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prx_scale.data.store.reader._OPEN", 1)
    view = Store.open(made).at(32)
    view.batch(numbers_in(0))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        view.batch(numbers_in(1))
    assert len(os.listdir("/proc/self/fd")) == before


def test_damage_is_named(tmp_path: Path) -> None:
    wanted = stores.make(tmp_path)
    file = layout.shard_file(tmp_path, 1, "safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    store = Store.open(tmp_path)
    with pytest.raises(InputError, match=r"000001\.safetensors: its content is not what was written"):
        store.verify()
    file.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=rf"000001\.safetensors: has {len(whole) - 1:,} bytes, {len(whole):,} were"):
        Store.open(tmp_path)
    with pytest.raises(InputError, match="cut short or changed"):
        Store.open(tmp_path, check_files=False).at(32).batch(numbers_in(0))
    file.unlink()
    with pytest.raises(InputError, match=r"000001\.safetensors: cannot be read"):
        Store.open(tmp_path)
    assert list(missing(tmp_path, wanted, range(3))) == [1]
    forget(tmp_path, [1])
    with pytest.raises(InputError, match="not finished"):
        Store.open(tmp_path)
    assert not finish(tmp_path, wanted)
    stores.build(wanted, 1).write(tmp_path)
    assert finish(tmp_path, wanted)
    assert file.read_bytes() == whole
    Store.open(tmp_path).verify()


def test_a_file_that_is_cut_while_it_is_open_is_named(tmp_path: Path) -> None:
    stores.make(tmp_path)
    view = Store.open(tmp_path).at(32)
    view.batch(numbers_in(2))
    os.truncate(layout.shard_file(tmp_path, 0, "safetensors"), 2000)
    with pytest.raises(InputError, match="cut short since"):
        view.batch(numbers_in(2), np.full(len(numbers_in(2)), -1))


@pytest.mark.parametrize("content", [b"", b"{}", b"[1", b'{"format": "prx-scale store", "version": 99}', b"\xff"])
def test_a_damaged_index_is_named(tmp_path: Path, content: bytes) -> None:
    stores.make(tmp_path)
    (tmp_path / layout.INDEX).write_bytes(content)
    with pytest.raises(InputError, match=r"index\.json"):
        Store.open(tmp_path)


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    stores.make(tmp_path)
    with pytest.raises(InputError, match='begun otherwise: latents "fp8", there "bf16"'):
        begin(tmp_path, stores.recipe(latents="fp8"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(InputError, match="is there and no store"):
        begin(tmp_path / "other", stores.recipe())


def test_a_recipe_survives_json() -> None:
    wanted = stores.recipe()
    again = Recipe.from_json(json.loads(json.dumps(wanted.to_json())), "here")
    assert again == wanted and again.hash == wanted.hash and not differences(wanted, again)
    assert stores.recipe(shard=4).hash == wanted.hash != stores.recipe(states="fp8").hash
    with pytest.raises(InputError, match="here: damaged"):
        Recipe.from_json({"data": 1}, "here")


def test_numbers_by_channel_leave_the_hashes_of_other_recipes_alone() -> None:
    known = stores.recipe()
    assert known.hash == "707a98d2eb13a0fe6b1e947a8d52949416f1eaa80ac06eef5fbd0471f3585058"
    one = stores.with_image(known, replace(stores.IMAGE, scale=1.5, shift=0.1))
    assert one.hash == "6363df877acd89e8b2d51e91851c4d171a58f552a41d1d13791e60e275bc7183"
    before = stores.with_image(known, stores.FLUX2)
    assert before.hash == "a69c7d0fefeb7575fa2d4f1f362924e31f8404b85511b723afa7ff49520bf048"
    now = stores.with_image(known, replace(stores.FLUX2, scale=(1.5, 0.1, 3.0, 1 / 3), shift=(0.0, -1.0, 1e-9, 0.3)))
    again = Recipe.from_json(json.loads(json.dumps(now.to_json())), "here")
    assert again == now and again.hash == now.hash != before.hash and not differences(now, again)


def test_a_store_that_was_begun_without_numbers_by_channel_is_not_gone_on_with(tmp_path: Path) -> None:
    before = stores.with_image(stores.recipe(), stores.FLUX2)
    begin(tmp_path, before)
    said = r"begun otherwise: image\.spec\.scale \[1\.5, .* there none; image\.spec\.shift .*options and version, or"
    with pytest.raises(InputError, match=said):
        begin(tmp_path, stores.with_image(before, replace(stores.FLUX2, scale=(1.5,) * 4, shift=(0.5,) * 4)))


def identity(name: str, kind: str, **files: str) -> EncoderIdentity:
    return EncoderIdentity(name=name, kind=kind, files={f"model/{key}": value for key, value in files.items()})


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (Expected(image=identity("kl-4", "kl", a="2")), "latents: made by 'kl-4' with file model/a '1', not '2'"),
        (Expected(image="sd3"), "latents: made by 'kl-4', not 'sd3'"),
        (Expected(text=("t5",)), "no text states of 't5', only of clip-l, gemma"),
        (Expected(text=(identity("gemma", "gemma", b="1"),)), "text states: made by 'gemma' with file model/b none"),
        (Expected(image_size=64), "no latents of 64 pixels, only of 32"),
        (Expected(image_size=32, buckets=stores.BUCKETS[:2]), "its buckets at 32 pixels are 48x32, 32x32, 32x48; the"),
        (Expected(stretch=0.1), "with stretch 0.05; the run has 0.1"),
        (Expected(kinds=("short",)), "captions of the kind 'short' are not encoded"),
        (Expected(latents="fp8"), "has latents bf16; the run takes fp8"),
        (Expected(fingerprint="a"), "data of fingerprint"),
    ],
)
def test_a_store_that_was_made_otherwise_is_refused(made: Path, expected: Expected, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Store.open(made, expected)


def test_a_store_that_fits_is_opened(made: Path, tmp_path: Path) -> None:
    right = Expected(
        image=identity("other name", "kl", a="1"),
        text=("gemma", identity("clip-l", "clip")),
        image_size=32,
        buckets=stores.BUCKETS,
        kinds=("long",),
        latents="bf16",
        fingerprint="f" * 16,
    )
    assert len(Store.open(made, right)) == 23
    stores.make(tmp_path, stores.recipe(pooled_only=True))
    store = Store.open(tmp_path, Expected(text=("clip-l",), tokens=False))
    assert store.at(32).batch(numbers_in(0), np.full(len(numbers_in(0)), -1)).states["clip-l"].tokens is None
    with pytest.raises(InputError, match="pooled text states only"):
        Store.open(tmp_path, Expected(text=("clip-l",)))


def test_fp8_keeps_rows_of_any_size() -> None:
    values = torch.randn(64, 5, 40, generator=torch.Generator().manual_seed(0))
    values *= torch.logspace(-30, 30, 64)[:, None, None]
    values[3] = 0
    values[4, 0, 0] = 448 * 2.0**7
    packed = pack(values, "fp8", 1, "values")
    assert packed.exponents is not None and packed.exponents.shape == (64, 5)
    back = unpack(packed, dtype=torch.float32)
    largest = values.abs().amax(dim=-1, keepdim=True)
    assert ((back - values).abs() <= torch.maximum(values.abs() / 16, largest * 2**-18)).all()
    assert torch.equal(unpack(packed).float(), back), "bfloat16 holds them exactly"
    assert not back[3].any() and back[4, 0, 0] == 448 * 2.0**7


@pytest.mark.parametrize(
    ("value", "storage", "said"),
    [(7e4, "fp16", "too large for fp16"), (float("nan"), "fp8", "not all"), (float("inf"), "bf16", "not all")],
)
def test_what_cannot_be_stored_is_refused(value: float, storage: Storage, said: str) -> None:
    values = torch.ones(2, 3)
    values[1, 1] = value
    with pytest.raises(InputError, match=f"states of t5: .*{said}"):
        pack(values, storage, 1, "states of t5")


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    for storage in EXACT:
        wanted = stores.recipe(latents=storage, states=storage)
        stores.make(tmp_path / storage, wanted)
        file = TensorFile(layout.shard_file(tmp_path / storage, 0, "safetensors"))
        entries = file.entries
        name = layout.latents(32, stores.BUCKETS[0].name)
        names = [each for each in (name, layout.exponents(name)) if each in entries]
        assert latent_bytes(wanted)[32] == sum(entries[each].row for each in names)
        tokens, pooled = layout.tokens("clip-l"), layout.pooled("clip-l")
        names = [n for each in (tokens, pooled) for n in (each, layout.exponents(each)) if n in entries]
        assert text_bytes(wanted)["clip-l"] == sum(entries[each].row for each in names)
        file.close()


@pytest.mark.parametrize("cut", [0, 4, 8, 60, 200])
def test_a_cut_tensor_file_is_named(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "a.safetensors"
    write_tensors(file, {"a": Tensor(parts=[np.arange(50)])})
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a\.safetensors"):
        TensorFile(file)

"""Encoding on the fly: the same batches as from a store, by any number of processes, and whoever dies is named."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import encoding
import numpy as np
import pytest
from failing import FailingSource
from made import CC12M

from prx_scale.cli import parse, run
from prx_scale.commands.encode import Encode
from prx_scale.data.captions import CaptionMix, CaptionTable, caption_mix
from prx_scale.data.encoding.job import Job, Setup
from prx_scale.data.encoding.plan import plan_text
from prx_scale.data.encoding.reading import Numbered
from prx_scale.data.onthefly import OnTheFly, Schedule
from prx_scale.data.onthefly.making import Drawn
from prx_scale.data.onthefly.producing import Production
from prx_scale.data.onthefly.schedule import Planner
from prx_scale.data.onthefly.slots import read, shared, slot_bytes, write
from prx_scale.data.onthefly.survey import Survey, kept_survey, survey
from prx_scale.data.skips import SkipLog
from prx_scale.data.store import Store
from prx_scale.data.store.batch import EncodedBatch
from prx_scale.errors import InputError

TEXTS = ("clip-l", "clip-g", "t5")
MIX = caption_mix(CaptionTable(kinds=("original", "long"), weights=(1.0, 3.0)))
DAMAGED = "0001.tar/n7"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoding.write_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def words(models: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line that makes the store."""
    folder = tmp_path_factory.mktemp("data")
    return encoding.words(encoding.write_data(folder / "tars"), folder / "store", models, text=TEXTS)


@pytest.fixture(scope="module")
def store(words: list[str]) -> Store:
    assert run(words) == 0
    return Store.open(_job(words).out)


def _job(words: list[str]) -> Job:
    verb = parse(words)
    assert isinstance(verb, Encode)
    return verb._job()[0]


def schedule(assigned: np.ndarray, store: Store, *, batch: int = 4, **more: int) -> Schedule:
    """Steps over samples whose buckets are known, in the order of training on the store."""
    return Schedule(
        assigned=assigned.astype(np.int16),
        image_size=64,
        kinds=len(store.at(64).buckets),
        batch=batch,
        seed=3,
        starts=store.blocks(),
        **more,
    )


def production(words: list[str], how: Schedule, mix: CaptionMix = MIX) -> Production:
    """What processes need to make the same batches as the store has."""
    job = _job(words)
    setup = Setup(plan=job.plan, threads=1)
    return Production(setup=setup, schedule=how, drawn=Drawn(mix=mix, seed=5), source=job.source)


def stored(store: Store, planner: Planner, item: int) -> EncodedBatch:
    """The batch that training on the store has."""
    wanted = planner.wanted(item)
    available = store.available(wanted.numbers, MIX.kinds)
    kinds = MIX.choose_kinds(available, seed=5, indices=wanted.places)
    return store.at(64).batch(wanted.numbers, np.array([store.kinds.index(kind) for kind in MIX.kinds])[kinds])


def assert_same(one: EncodedBatch, other: EncodedBatch) -> None:
    """Bit by bit."""
    ours, theirs = one.arrays(), other.arrays()
    assert ours.keys() == theirs.keys() and one.bucket == other.bucket
    for name, values in ours.items():
        assert values.dtype == theirs[name].dtype and np.array_equal(values, theirs[name]), name


def test_both_modes_give_the_same_batches(store: Store, words: list[str]) -> None:
    job = _job(words)
    looked = survey(Numbered(job.source), job.plan.preparer, decode=True)
    assigned = looked.assigned(store.recipe.resolutions[0], store.recipe.preprocessing)
    assert np.array_equal(assigned, store.at(64).assigned)
    how = schedule(looked.with_captions(assigned, MIX.kinds), store)
    maker, planner = production(words, how).maker(0, 1), Planner(how)
    assert maker.recipe.hash == store.recipe.hash
    buckets = set()
    for item in range(14):  # more than two epochs
        made = maker.make(planner.wanted(item))
        assert_same(made.batch, stored(store, planner, item))
        assert not made.skipped
        buckets.add(made.batch.bucket)
    assert len(buckets) == 3


def test_micro_batches_of_ranks_make_up_the_same_step(store: Store, words: list[str]) -> None:
    whole = schedule(np.array(store.at(64).assigned), store, batch=8)
    right = stored(store, Planner(whole), 1)
    for world, size in ((2, 4), (2, 2), (4, 1)):
        items = 8 // (world * size)
        ranks = [replace(whole, rank=rank, world=world, micro_batch=size) for rank in range(world)]
        maker = production(words, ranks[0]).maker(0, 1)
        parts = [maker.make(Planner(rank).wanted(items + k)).batch for k in range(items) for rank in ranks]
        for name, values in right.arrays().items():
            assert np.array_equal(np.concatenate([part.arrays()[name] for part in parts]), values), name
        assert [rank.first(rank.seen(items)) for rank in ranks] == [items] * world


def test_captions_encoded_beside_stored_latents_are_the_same(
    store: Store, words: list[str], models: Path, tmp_path: Path
) -> None:
    assert run([*words, "--text-encoders", "--out", str(tmp_path)]) == 0
    latents = Store.open(tmp_path)
    plan = plan_text([f"{name}={models}" for name in TEXTS], latents.recipe, "bf16")
    how = schedule(np.array(latents.at(64).assigned), latents)
    made = Production(
        setup=Setup(plan=plan, threads=1), schedule=how, drawn=Drawn(mix=MIX, seed=5), store=tmp_path
    ).maker(0, 1)
    assert made.recipe.hash == store.recipe.hash
    planner = Planner(how)
    for item in range(4):
        assert_same(made.make(planner.wanted(item)).batch, stored(store, planner, item))
    with pytest.raises(InputError, match="no text encoder"):
        plan_text([], latents.recipe, "bf16")


def test_another_of_its_bucket_stands_in_for_a_damaged_sample(store: Store, words: list[str], tmp_path: Path) -> None:
    job = _job(words)
    looked = kept_survey(tmp_path / "survey.npz", Numbered(job.source), job.plan.preparer)
    assigned = looked.assigned(store.recipe.resolutions[0], store.recipe.preprocessing)
    damaged = np.flatnonzero(assigned != store.at(64).assigned)
    assert len(damaged) == 1, "its head says nothing of the damage"
    how = schedule(assigned, store)
    maker, planner = production(words, how).maker(0, 1), Planner(how)
    item = next(item for item in range(20) if damaged[0] in planner.wanted(item).numbers)
    wanted = planner.wanted(item)
    made = [maker.make(wanted) for _ in range(2)]
    assert [each.key for each in made[0].skipped] == [DAMAGED]
    row = wanted.numbers.tolist().index(damaged[0])
    stand_in = int(made[0].batch.numbers[row])
    assert stand_in != damaged[0] and store.at(64).assigned[stand_in] == wanted.bucket
    assert_same(made[0].batch, made[1].batch)
    others = np.arange(len(wanted.numbers)) != row
    assert np.array_equal(made[0].batch.numbers[others], wanted.numbers[others])


def test_a_survey_is_kept_and_made_again_for_other_data(words: list[str], tmp_path: Path) -> None:
    job = _job(words)
    data, preparer, file = Numbered(job.source), job.plan.preparer, tmp_path / "survey.npz"
    found = kept_survey(file, data, preparer)
    assert (found.sizes[:, 0] > 0).all() and not found.decoded
    written = file.stat().st_mtime_ns
    assert np.array_equal(kept_survey(file, data, preparer).sizes, found.sizes)
    assert file.stat().st_mtime_ns == written
    assert kept_survey(file, data, preparer, decode=True).decoded
    assert (Survey.load(file).sizes == 0).all(axis=1).sum() == 1
    file.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"survey\.npz: no survey"):
        kept_survey(file, data, preparer)


@pytest.mark.slow
def test_processes_make_the_batches_ahead(store: Store, words: list[str]) -> None:
    how = schedule(np.array(store.at(64).assigned), store)
    planner = Planner(how)
    skips = SkipLog(source="data")
    with OnTheFly(production(words, how), processes=2, depth=2, skips=skips) as stream:
        stream.load_state_dict({**stream.state_dict(), "seen": 3 * how.batch})
        assert stream.recipe.hash == store.recipe.hash
        batches = iter(stream)
        for item in range(3, 17):
            found = next(batches)
            assert found.item == item and found.places.tolist() == list(range(4 * item, 4 * item + 4))
            assert_same(found.batch, stored(store, planner, item))
            time.sleep(0.2)  # as training would
        slow = stream.waiting
        assert slow.items == 13 and slow.producers > max(slow.trainer, 0.1) and "encoders for the trainer" in str(slow)
        assert stream.state_dict()["seen"] == 17 * how.batch and skips.seen == 56
        processes = [producer.process for producer in stream._producers]
        os.kill(processes[1].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"producer \d was ended by SIGKILL .*before micro-batch \d+ was made"):
            for _ in range(20):
                next(batches)
    assert all(not process.is_alive() for process in processes) and not stream._producers
    with pytest.raises(InputError, match="other data"):
        stream.load_state_dict({"seen": 0, "data": "others"})


@pytest.mark.slow
def test_what_fails_in_a_process_is_told_with_its_traceback(store: Store, words: list[str]) -> None:
    how = schedule(np.array(store.at(64).assigned), store)
    asked = production(words, how)
    assert asked.source is not None
    with OnTheFly(replace(asked, source=FailingSource(asked.source, after=4))) as stream:
        with pytest.raises(RuntimeError, match=r"(?s)failed at making micro-batch \d+:\nTraceback.*the disk is gone"):
            for _ in range(20):
                next(iter(stream))
        began = time.perf_counter()
    assert time.perf_counter() - began < 5


def test_what_makes_no_sense_is_refused(store: Store, words: list[str]) -> None:
    how = schedule(np.array(store.at(64).assigned), store)
    with pytest.raises(InputError, match="0 processes"):
        OnTheFly(production(words, how), processes=0)
    with pytest.raises(InputError, match="one of them"):
        OnTheFly(replace(production(words, how), source=None))
    with pytest.raises(InputError, match="does not divide among 3 processes in micro-batches of 1"):
        OnTheFly(production(words, replace(how, world=3, micro_batch=1)))
    with pytest.raises(InputError, match="no sample has a bucket"):
        OnTheFly(production(words, replace(how, assigned=np.full(26, -1, dtype=np.int16))))
    with pytest.raises(InputError, match=r"GB are needed .* GB are free"):
        shared(1 << 20, 1 << 30)


def test_arrays_go_through_a_slot_and_back(store: Store) -> None:
    batch = store.at(64).batch(np.flatnonzero(store.at(64).assigned == 1)[:3], np.array([0, -1, 0]))
    room = np.zeros(slot_bytes(store.recipe, 3), dtype=np.uint8)
    arrays = write(room, batch.arrays())
    back = read(room, arrays)
    room[:] = 255
    for name, values in batch.arrays().items():
        assert np.array_equal(back[name], values) and back[name].dtype == values.dtype
    with pytest.raises(ValueError, match="no room for"):
        write(room[:100], batch.arrays())


@pytest.mark.skipif(not CC12M.exists(), reason="no real photographs here")
def test_both_modes_agree_on_photographs(models: Path, tmp_path: Path) -> None:
    words = encoding.words(CC12M, tmp_path, models, text=("clip-l", "t5gemma"))
    at = words.index("--captions")
    words = [*words[:at], *words[at + 4 :], "--text-dtype", "fp8"]
    assert run(words) == 0
    store = Store.open(tmp_path)
    mix = caption_mix(CaptionTable())
    how = schedule(np.array(store.at(64).assigned), store)
    maker, planner = production(words, how, mix).maker(0, 1), Planner(how)
    for item in range(8):
        wanted = planner.wanted(item)
        right = store.at(64).batch(wanted.numbers, np.zeros(4, dtype=np.int32)).arrays()
        for name, values in maker.make(wanted).batch.arrays().items():
            if name.startswith("t5gemma.tokens"):
                # Masked encoders are the same up to rounding: a step of fp8 here and there.
                assert (values != right[name]).mean() < 0.01
            else:
                assert np.array_equal(values, right[name]), name

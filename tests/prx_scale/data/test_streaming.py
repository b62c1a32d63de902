"""Batches from a source: the same on every number of processes and workers, across kills, and whatever is damaged."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prx_scale.data.imagebatches import FitImages, ImageBatch, as_floats, stack_images
from prx_scale.data.lanes import order_of
from prx_scale.data.samples import RawSample, Skip, Skipped
from prx_scale.data.skips import SkipLog
from prx_scale.data.sources import open_source
from prx_scale.data.sources.base import Counts, Item, Locality, Source
from prx_scale.data.sources.selected import SelectedSource
from prx_scale.data.streaming import Share, Slot, StreamLoader
from prx_scale.errors import InputError
from tests.prx_scale.data.made import sample_files, write_shards, write_tar

ROOT = Path(__file__).parents[3]


class NumberedSource(Source):
    """Samples without images, named by shard and place, some of them damaged: what matters here is which and when."""

    def __init__(self, counts: Sequence[int], damaged: frozenset[tuple[int, int]] = frozenset()) -> None:
        self.spec, self.shards = "numbers", tuple(f"{n}.tar" for n in range(len(counts)))
        self.locality = Locality(lanes=4, window=8)
        self._counts, self._damaged = np.array(counts, dtype=np.int64), damaged

    def counts(self) -> Counts:
        return self._counts

    def fetch(self, wanted: Sequence[tuple[int, int]]) -> list[Item]:
        return [self._item(*at) for at in wanted]

    def _item(self, shard: int, place: int) -> Item:
        assert 0 <= place < self._counts[shard]
        key = f"{shard}/{place}"
        if (shard, place) in self._damaged:
            return Skipped(key=key, shard=self.shards[shard], reason=Skip.CORRUPT_RECORD)
        return RawSample(key=key, image=b"x", shard=self.shards[shard], place=place)


def key_of(sample: RawSample) -> str:
    return sample.key


def pairs(slots: Sequence[Slot[str]]) -> list[tuple[int, str]]:
    return [(slot.position, slot.value) for slot in slots]


def loader(
    source: Source,
    rank: int = 0,
    world: int = 1,
    *,
    batch: int = 3,
    seed: int = 1,
    skips: SkipLog | None = None,
    workers: int = 0,
) -> StreamLoader[str, list[tuple[int, str]]]:
    share = Share(batch=batch, rank=rank, world=world)
    quiet = skips or SkipLog(max_skipped=1.0)
    return StreamLoader(
        source, order_of(source, seed), share, prepare=key_of, collate=pairs, skips=quiet, workers=workers
    )


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any),
    seed=st.integers(0, 2**40),
    stages=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(0, 6)), min_size=1, max_size=5),
)
def test_no_sample_is_dropped_or_doubled_when_the_number_of_processes_changes(
    counts: list[int], seed: int, stages: list[tuple[int, int, int]]
) -> None:
    """Each stage: so many processes, with so large a batch each, for so many steps, from the last one's state."""
    source = NumberedSource(counts)
    state = loader(source, seed=seed).state_dict()
    found: list[tuple[int, str]] = []
    for world, batch, steps in stages:
        ranks = [loader(source, rank, world, batch=batch, seed=seed) for rank in range(world)]
        for each in ranks:
            each.load_state_dict(state)
            for got in itertools.islice(each, steps):
                found.extend(got)
        (state,) = {json.dumps(each.state_dict()): each.state_dict() for each in ranks}.values()
    assert sorted(position for position, _ in found) == list(range(len(found))) and state["seen"] == len(found)
    alone = list(itertools.chain(*itertools.islice(loader(source, batch=1, seed=seed), len(found))))
    assert sorted(found) == alone
    whole = [key for position, key in found if position < len(found) // sum(counts) * sum(counts)]
    assert set(Counter(whole).values()) <= {len(found) // sum(counts)}


def test_one_two_and_three_processes_within_an_epoch() -> None:
    source = NumberedSource([40, 7, 53])
    state, found = loader(source).state_dict(), list[tuple[int, str]]()
    for world, steps in ((1, 8), (2, 4), (3, 5), (1, 2)):
        ranks = [loader(source, rank, world, batch=2) for rank in range(world)]
        for each in ranks:
            each.load_state_dict(state)
            found.extend(itertools.chain(*itertools.islice(each, steps)))
        state = ranks[0].state_dict()
    assert state["seen"] == 8 * 2 + 4 * 4 + 5 * 6 + 2 * 2 == 66
    assert len({key for _, key in found}) == 66, "66 of 100 samples, none of them twice"


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers: int) -> None:
    source = NumberedSource([9, 14], frozenset({(0, 3), (1, 7)}))
    plain = list(itertools.islice(loader(source), 20))
    each = loader(source, workers=workers)
    assert list(itertools.islice(each, 12)) == plain[:12] and each.seen == 36
    again = loader(source, workers=workers)
    again.load_state_dict(each.state_dict())
    assert list(itertools.islice(again, 8)) == plain[12:]


def test_a_state_loaded_on_the_way_moves_the_iterator() -> None:
    source = NumberedSource([30])
    each = loader(source)
    batches = iter(each)
    first, state = next(batches), each.state_dict()
    second = next(batches)
    each.load_state_dict(state)
    assert next(batches) == second != first


def test_damaged_samples_shift_nobody_and_others_stand_in() -> None:
    damaged = frozenset({(0, 5), (1, 2), (1, 9)})
    whole, broken = NumberedSource([20, 20]), NumberedSource([20, 20], damaged)
    log = SkipLog(max_skipped=0.5)
    expected = dict(itertools.chain(*itertools.islice(loader(whole, batch=4), 20)))
    found = dict(itertools.chain(*itertools.islice(loader(broken, batch=4, skips=log), 20)))
    assert len(found) == 80
    for position, key in expected.items():
        shard, place = map(int, key.split("/"))
        stands_in = (shard, place) in damaged
        assert (found[position] != key) == stands_in
    assert log.seen == 80 and log.reasons == {"corrupt record": 6}, "three samples, seen in two epochs"
    for world in (2, 4):
        ranks = [loader(broken, rank, world, batch=2) for rank in range(world)]
        shared = dict(itertools.chain(*(got for each in ranks for got in itertools.islice(each, 40 // world))))
        assert shared == found, "stand-ins do not depend on who reads"


def test_too_much_damage_ends_the_stream_and_names_the_shards() -> None:
    source = NumberedSource([100, 100], frozenset((1, place) for place in range(0, 100, 4)))
    with pytest.raises(InputError, match=r"numbers: \d+ of \d+ samples left out.*most of them in 1.tar"):
        for _ in itertools.islice(loader(source, skips=SkipLog(max_skipped=0.05, minimum=60, source="numbers")), 1000):
            pass


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_damage_ends_at_once(workers: int) -> None:
    source = NumberedSource([10], frozenset((0, place) for place in range(10)))
    with pytest.raises(InputError, match=r"^numbers: 64 samples drawn at random are all damaged, the last one 0/\d"):
        next(iter(loader(source, workers=workers)))


def test_a_state_of_other_data_is_refused() -> None:
    state = loader(NumberedSource([10, 5])).state_dict()
    loader(NumberedSource([10, 5])).load_state_dict(state)
    for other in (loader(NumberedSource([5, 10])), loader(NumberedSource([10, 5]), seed=2)):
        with pytest.raises(InputError, match="numbers: the checkpoint was trained on other data or in another order"):
            other.load_state_dict(state)


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(InputError, match="numbers: holds no samples"):
        loader(NumberedSource([0, 0]))


def test_a_choice_out_of_a_source() -> None:
    source = NumberedSource([5, 5, 5])
    chosen = [np.array([4, 0]), np.array([], dtype=np.int64), np.array([1, 1, 3])]
    selected = SelectedSource(source, chosen)
    assert selected.counts().tolist() == [2, 0, 3] and [item.key for item in selected.samples(0)] == ["0/4", "0/0"]
    epoch = list(itertools.chain(*itertools.islice(loader(selected, batch=1), 5)))
    assert sorted(key for _, key in epoch) == ["0/0", "0/4", "2/1", "2/1", "2/3"]
    others = [np.array([4, 1]), chosen[1], chosen[2]]
    assert len({each.fingerprint() for each in (source, selected, SelectedSource(source, others))}) == 3
    with pytest.raises(InputError, match=r"1.tar has 5 samples; places 5 to 5 are chosen"):
        SelectedSource(source, [chosen[0], np.array([5]), chosen[2]])
    with pytest.raises(InputError, match="has 3 shards, the choice is of 2"):
        SelectedSource(source, chosen[:2])


def images(folder: Path, workers: int, side: int = 16) -> StreamLoader[object, ImageBatch]:
    source = open_source(str(folder))
    prepare = FitImages(height=side, width=side)
    return StreamLoader(  # type: ignore[return-value]
        source, order_of(source, 7), Share(batch=4), prepare=prepare, collate=stack_images, workers=workers
    )


def test_batches_of_images(tmp_path: Path) -> None:
    write_shards(tmp_path, [6, 5])
    batch = next(iter(images(tmp_path, 0)))
    assert batch.pixels.shape == (4, 16, 16, 3) and batch.pixels.dtype == torch.uint8
    assert batch.original.tolist() == [[24, 32]] * 4 and batch.crop.tolist() == [[0, 3]] * 4
    assert batch.positions.tolist() == [0, 1, 2, 3] and batch.labels == (None,) * 4
    assert [caption["original"] for caption in batch.captions] == [key.split("/")[1] for key in batch.keys]
    floats = as_floats(batch.pixels)
    assert floats.shape == (4, 3, 16, 16) and floats.is_contiguous()
    assert torch.equal(((floats + 1) * 127.5).round().to(torch.uint8), batch.pixels.permute(0, 3, 1, 2))


KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
from tests.prx_scale.data.test_streaming import images
folder, out, workers, die = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
loader = images(folder, workers)
state = out / "state.json"
if state.exists():
    loader.load_state_dict(json.loads(state.read_text()))
for batch in loader:
    step = loader.seen // 4
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps([step, batch.keys, int(batch.pixels.sum()), batch.positions.tolist()]) + "\\n")
    if step % 3 == 0:
        (out / "new").write_text(json.dumps(loader.state_dict()))
        os.replace(out / "new", state)
    if step == die:
        os.kill(os.getpid(), signal.SIGKILL)
    if step == 12:
        break
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_in_mid_epoch_and_resumed(workers: int, tmp_path: Path, cache: Path) -> None:
    files = [sample_files(f"{n}", n) for n in range(30)]
    files[11][0] = (files[11][0][0], b"\xff\xd8\xff damaged")
    write_tar(tmp_path / "data" / "a.tar", [file for sample in files[:17] for file in sample])
    write_tar(tmp_path / "data" / "b.tar", [file for sample in files[17:] for file in sample])

    def run(out: Path, workers: int, die: int) -> int:
        out.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PRX_SCALE_CACHE": str(cache)}
        words = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path / "data"), str(out), str(workers), str(die)]
        return subprocess.run(words, env=environment, cwd=ROOT, timeout=120, check=False).returncode

    def rows(out: Path) -> dict[int, list[object]]:
        # Steps after the last state are done again; the last time counts, and must agree with the first.
        found: dict[int, list[object]] = {}
        for line in (out / "log.jsonl").read_text().splitlines():
            step, *rest = json.loads(line)
            assert found.setdefault(step, rest) == rest
        return found

    assert run(tmp_path / "killed", workers, die=8) == -signal.SIGKILL
    assert run(tmp_path / "killed", 2 - workers, die=0) == 0
    whole = itertools.islice(images(tmp_path / "data", 0), 12)
    assert rows(tmp_path / "killed") == {
        step: [list(batch.keys), int(batch.pixels.sum()), batch.positions.tolist()]
        for step, batch in enumerate(whole, 1)
    }

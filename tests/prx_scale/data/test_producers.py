"""Processes that encode on the fly: the batches of their store ahead of training, and whoever dies is named."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from failing import FailingSource
from streamed import assert_same, from_store, opened

from prx_scale.config import RunConfig
from prx_scale.data.onthefly.stream import OnTheFly, TooManySkipped
from prx_scale.data.skips import SkipLog
from prx_scale.study import load
from prx_scale.training.failures import Kind, kind_of
from tests.prx_scale.training.images import (
    ENCODING,
    STORE,
    write_study,
)


@pytest.fixture(scope="module")
def run(world: Path) -> RunConfig:
    return load(write_study(world / "study")).runs[0]


@pytest.fixture(scope="module")
def stored(world: Path) -> RunConfig:
    return load(write_study(world / "stored", data=STORE, encoding="")).runs[0]


@pytest.mark.slow
def test_processes_make_the_batches_ahead(run: RunConfig, stored: RunConfig, world: Path) -> None:
    one = opened(run, world)
    with OnTheFly(one.production, processes=2, ahead=2) as stream, ThreadPoolExecutor(1) as trainer:
        first = trainer.submit(stream.take, 4)
        while len(stream._producers) < 2:
            time.sleep(0.01)
        for producer in stream._producers:
            assert producer.process.pid
            os.kill(producer.process.pid, signal.SIGINT)  # as Ctrl-C does to all, while they are importing
        assert first.result().places.tolist() == [4, 5]
        for seen in range(6, 38, 2):  # into the second stage
            found = stream.take(seen)
            assert found.places.tolist() == [seen, seen + 1]
            assert_same(found.batch, from_store(stored, stream.planner.wanted(found.item)))
            time.sleep(0.2)  # as training would
        slow = stream.waiting
        assert slow.items == 16 and slow.producers > max(slow.trainer, 0.1) and "encoders for the trainer" in str(slow)
        assert sum(len(each.batch) for each in stream.heldout()) == 7
        assert stream.take(10).places.tolist() == [10, 11]
        processes = [producer.process for producer in stream._producers]
        assert processes[1].pid
        os.kill(processes[1].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"producer 1 was ended by SIGKILL .*before micro-batch \d+ was made"):
            for seen in range(12, 60, 2):
                stream.take(seen)
    assert all(not process.is_alive() for process in processes) and not stream._producers
    with pytest.raises(RuntimeError, match="closed"):
        stream.take(0)


@pytest.mark.slow
def test_what_fails_in_a_process_is_told_with_its_traceback(run: RunConfig, world: Path) -> None:
    asked = opened(run, world).production
    (source,) = asked.sources
    broken = replace(asked, sources=(FailingSource(source, after=4),))
    with OnTheFly(broken) as stream, pytest.raises(RuntimeError) as raised:
        for seen in range(0, 40, 2):
            stream.take(seen)
    message = str(raised.value)
    assert "producer 0 failed at making micro-batch" in message.splitlines()[0]
    assert "the disk is gone" in message.splitlines()[0] and "Traceback" in message
    assert kind_of(raised.value) is Kind.FOR_GOOD


@pytest.mark.slow
def test_too_many_that_cannot_be_used_end_training_as_failed(world: Path) -> None:
    heads = ENCODING.replace('survey = "images"', 'survey = "heads"')
    run = load(write_study(world / "bounded", encoding=heads)).runs[0]
    log = SkipLog(max_skipped=0.001, minimum=2, path=world / "skipped.jsonl", source=run.data.path)
    with OnTheFly(opened(run, world).production, skips=log) as stream, pytest.raises(TooManySkipped) as raised:
        for seen in range(0, 104, 2):
            stream.take(seen)
    assert "0001.tar (1)" in str(raised.value) and "n7" in (world / "skipped.jsonl").read_text()
    assert kind_of(raised.value) is Kind.FOR_GOOD

"""The benchmark of reading latents: its readers do the same job, and its page has a place for the table."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks" / "data"


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The scripts, imported as they import each other."""
    sys.path.insert(0, str(FOLDER))
    import encodings_made
    import latents

    found = {each.__name__: each for each in (encodings_made, latents)}
    yield found
    del sys.path[0]
    for name in found:
        sys.modules.pop(name)


@pytest.mark.parametrize("text", [False, True])
def test_readers_give_the_same_numbers(modules: dict[str, ModuleType], tmp_path: Path, text: bool) -> None:
    made = modules["encodings_made"].Made(6, text=text)
    forms = ["store"] + (["arrays", "bytes"] if importlib.util.find_spec("datasets") else [])
    forms += ["pth", "npy"] if importlib.util.find_spec("webdataset") else []
    readers = modules["encodings_made"].readers(tmp_path, made, 3, 4, forms)
    batches = {name: next(make()) for name, make in readers.items()}
    modules["latents"].check(batches, made, 3)
    drawn = np.random.default_rng(0).integers(0, 6, 3)
    for place, name in enumerate(made.shapes):
        # The store is made shard by shard, the others row by row: each names its random rows.
        rows = {int(n): made.rows(name, n // 4 * 4, min(n // 4 * 4 + 4, 6))[n % 4] for n in drawn}
        ours = batches["prx-scale"][place].view(torch.uint16)
        assert np.array_equal(ours.numpy(), np.stack([rows[int(n)] for n in drawn]))
        if "datasets, bytes" in batches:
            theirs = [batches[form][place].view(torch.uint16) for form in ("datasets, bytes", "datasets, arrays")]
            assert torch.equal(*theirs)
            assert np.array_equal(theirs[0].numpy(), np.stack([made.rows(name, n, n + 1)[0] for n in drawn]))


def test_another_job_is_not_timed(modules: dict[str, ModuleType]) -> None:
    made = modules["encodings_made"].Made(4, text=False)
    with pytest.raises(SystemExit, match="is another job"):
        modules["latents"].check({"x": (torch.zeros(2, 32, 32, 32),)}, made, 2)


def test_ratios_are_taken_within_a_turn(modules: dict[str, ModuleType]) -> None:
    rates = {"prx-scale": np.array([10.0, 100.0, 20.0]), "other": np.array([5.0, 50.0, 20.0])}
    measured = modules["latents"].Measured(data="latents", rates=rates)
    memory = modules["latents"].Memory(shards=9, samples=2_000_000, seconds=3, resident=np.arange(20.0))
    text = modules["latents"].render([measured], memory, argparse.Namespace(turns=3)) if _packages() else ""
    assert modules["latents"]._row("other", measured) == "| other | 20 | 2.0 (1.5 to 2.0) |"
    assert not text or "2.0 million latents at random out of 9 shards in 3 s: 2.0 MiB after a tenth" in text


def _packages() -> bool:
    return all(importlib.util.find_spec(name) for name in ("webdataset", "datasets"))


@pytest.mark.slow
def test_memory_is_looked_at_in_a_process_of_its_own(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    modules["encodings_made"].write_store(tmp_path / "s", modules["encodings_made"].Made(64, text=False), 2)
    found = modules["latents"].measure_memory(tmp_path / "s", argparse.Namespace(seconds=1.0, batch=16))
    assert found.shards == 32 and found.samples > 1000 and len(found.resident) > 10
    assert found.resident.max() < found.resident[2] * 1.2


def test_the_script_says_what_it_does() -> None:
    done = subprocess.run([sys.executable, str(FOLDER / "latents.py"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--text-batch" in done.stdout, done.stderr


def test_the_page_has_a_place_for_the_table() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert "<!-- benchmark: latents -->" in text and "<!-- end of benchmark: latents -->" in text

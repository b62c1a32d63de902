"""The benchmark of image loading: its pictures, that its readers do the same job, and its tables."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The scripts, imported as they import each other."""
    sys.path.insert(0, str(ROOT / "benchmarks" / "data"))
    import images
    import photographs
    import readers

    found = {each.__name__: each for each in (images, photographs, readers)}
    yield found
    del sys.path[0]
    for name in found:
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def tar(modules: dict[str, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of small made pictures."""
    path = tmp_path_factory.mktemp("tar") / "made.tar"
    patch = pytest.MonkeyPatch()
    patch.setattr(modules["photographs"], "SIZES", ((48, 64), (64, 48)))
    said = modules["photographs"].write_made(path, 80)
    patch.undo()
    assert said.startswith("80 made pictures: ") and "0.00 megapixels" in said
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRX_SCALE_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))


def test_made_pictures_have_the_spectrum_of_photographs(modules: dict[str, ModuleType]) -> None:
    grey = modules["photographs"].texture(512, 0).mean(axis=-1)
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512)[None])
    bands = [(0.01, 0.03), (0.03, 0.1), (0.1, 0.3)]
    level = [np.log(power[(frequency > low) & (frequency < high)].mean()) for low, high in bands]
    at = [np.log(np.sqrt(low * high)) for low, high in bands]
    slope = np.polyfit(at, level, 1)[0]
    assert -2.6 < slope < -1.6, "power falls as about 1 / frequency squared"


@pytest.mark.parametrize("name, package", [("webdataset", "webdataset"), ("datasets", "datasets")])
def test_readers_do_the_same_job(modules: dict[str, ModuleType], tar: Path, name: str, package: str) -> None:
    pytest.importorskip(package)
    readers = modules["readers"]
    found = {}
    for reader in ("prx-scale", name, f"{name}, our decoder"):
        batches = itertools.islice(readers.READERS[reader](tar, 32), 2)
        found[reader] = {text: image for floats, texts in batches for image, text in zip(floats, texts, strict=True)}
        modules["images"].check({reader: next(readers.READERS[reader](tar, 32))}, 32)
    shared = set.intersection(*(set(each) for each in found.values()))
    assert len(shared) > 20
    for text in shared:
        mine, theirs, decoded = (each[text] for each in found.values())
        assert torch.equal(mine, decoded) and (mine - theirs).abs().mean() < 0.03


def test_another_job_is_refused(modules: dict[str, ModuleType]) -> None:
    floats = torch.rand(64, 3, 8, 8)
    with pytest.raises(SystemExit, match=r"webdataset: .* is another job"):
        modules["images"].check({"webdataset": (floats, ["a", "b"])}, 8)


def test_the_plain_way_keeps_the_middle(modules: dict[str, ModuleType]) -> None:
    image = Image.new("RGB", (60, 20), (255, 255, 255))
    image.paste((0, 0, 0), (20, 0, 40, 20))
    found = modules["readers"].plain(image, 20)
    assert found.shape == (3, 20, 20) and found[:, :, 1:-1].max() < -0.9


def test_rows_and_ratios(modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    images, names = modules["images"], list(modules["readers"].READERS)
    seconds = {name: np.array([0.1, 0.2, 0.1]) * (1 if name == "prx-scale" else 2) for name in names}
    # The packages beside which it is measured need not be installed here.
    monkeypatch.setattr(images, "version", lambda name: "1")
    text = images.render([images.Measured(data="pictures", side=256, seconds=seconds)])
    assert f"| 256 px | 640 | 320 | 320 |{' 2.00 (2.00 to 2.00) |' * 4}" in text
    assert "medians of 3 alternating turns" in text


def test_the_page_has_a_place_for_the_tables() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert "<!-- benchmark: images -->" in text and "<!-- end of benchmark: images -->" in text

"""CLIP's scores against transformers' own call, and LAION's predictor against its layers, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPModel, CLIPProcessor, T5Config

from prx_scale.data.decode import decode
from prx_scale.data.filters.aesthetic import read_head
from prx_scale.data.filters.base import Caption, Seen
from prx_scale.data.filters.clip import ClipScorer
from prx_scale.data.samples import RawSample
from prx_scale.errors import InputError
from tests.prx_scale.data.filter_data import caption, picture, write_clip, write_predictor
from tests.prx_scale.data.made import CC12M, encoded

SIZES = ((96, 80), (50, 200), (201, 47), (33, 32), (64, 64), (31, 90))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_predictor(tmp_path_factory.mktemp("head") / "predictor.safetensors")


def samples() -> list[Seen]:
    found = list[Seen]()
    for seed, (width, height) in enumerate(SIZES):
        image = encoded(picture(seed, width, height), "PNG")
        sample = RawSample(key=str(seed), image=image, captions={"original": caption(seed, 2 + 20 * seed)})
        found.append(Seen(sample=sample, size=(height, width), pixels=np.asarray(picture(seed, width, height))))
    return found


def transformers_own(clip: Path, batch: list[Seen]) -> tuple[list[float], np.ndarray]:
    """Cosine of each pair, and image embeddings of length 1, as CLIPModel and CLIPProcessor give them."""
    from PIL import Image

    model, processor = CLIPModel.from_pretrained(clip).eval(), CLIPProcessor.from_pretrained(clip)
    inputs = processor(
        text=[each.sample.captions["original"] for each in batch],
        images=[Image.fromarray(each.pixels) for each in batch],
        return_tensors="pt",
        padding=True,
        truncation=True,
        max_length=77,
    )
    with torch.no_grad():
        out = model(**inputs)
    cosines = (out.logits_per_image / model.logit_scale.exp()).diagonal()
    return cosines.tolist(), torch.nn.functional.normalize(out.image_embeds, dim=-1).numpy()


def test_similarity_is_transformers_own(clip: Path) -> None:
    scorer, batch = ClipScorer(str(clip), Caption(), device="cpu"), samples()
    cosines, _ = transformers_own(clip, batch)
    found = scorer.score([scorer.prepare(each) for each in batch])
    assert found["clip_similarity"] == pytest.approx(cosines, abs=2e-6)
    assert np.ptp(cosines) > 1e-3  # else anything would be near
    shuffled = [scorer.prepare(each) for each in batch[::-1]]
    assert scorer.score(shuffled)["clip_similarity"] == pytest.approx(cosines[::-1], abs=2e-6)


def test_a_sample_without_caption_has_no_similarity(clip: Path, predictor: Path) -> None:
    scorer = ClipScorer(str(clip), Caption(kind="long"), head=predictor, device="cpu")
    found = scorer.score([scorer.prepare(each) for each in samples()[:2]])
    assert found["clip_similarity"] == [None, None] and all(isinstance(each, float) for each in found["aesthetic"])


def test_the_aesthetic_score_is_that_of_the_layers_one_by_one(clip: Path, predictor: Path) -> None:
    from safetensors.torch import load_file

    scorer, batch = ClipScorer(str(clip), Caption(), head=predictor, device="cpu"), samples()
    state = torch.nn.Sequential(
        torch.nn.Linear(768, 1024),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(1024, 128),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(128, 64),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(64, 16),
        torch.nn.Linear(16, 1),
    ).eval()
    state.load_state_dict({name.removeprefix("layers."): value for name, value in load_file(predictor).items()})
    _, embeddings = transformers_own(clip, batch)
    with torch.no_grad():
        expected = state(torch.from_numpy(embeddings))[:, 0].tolist()
    found = scorer.score([scorer.prepare(each) for each in batch])["aesthetic"]
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 1e-4


def test_the_published_file_is_read_without_being_unpickled(tmp_path: Path, predictor: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(predictor), tmp_path / "sac.pth")
    one, other = read_head(predictor, 768), read_head(tmp_path / "sac.pth", 768)
    assert one.weight.tobytes() == other.weight.tobytes() and one.bias == other.bias


def test_the_first_predictor_is_one_layer(tmp_path: Path) -> None:
    linear = torch.nn.Linear(512, 1)
    torch.save(linear.state_dict(), tmp_path / "linear.pth")
    head, inputs = read_head(tmp_path / "linear.pth", 512), np.random.default_rng(0).normal(size=(4, 512))
    with torch.no_grad():
        assert head(inputs) == pytest.approx(linear.double()(torch.from_numpy(inputs))[:, 0].numpy())


def test_what_is_no_predictor_is_refused(tmp_path: Path, predictor: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(predictor)
    wrong = {
        "lacks layers.7.bias": {name: value for name, value in tensors.items() if name != "layers.7.bias"},
        "has extra too": {**tensors, "extra": torch.zeros(1)},
        "layers of 1024 and 100 do not follow": {**tensors, "layers.2.weight": torch.zeros(128, 100)},
        "layers.7: weight": {**tensors, "layers.7.bias": torch.zeros(3)},
        "gives 2 numbers": {"weight": torch.zeros(2, 768), "bias": torch.zeros(2)},
    }
    for words, content in wrong.items():
        save_file(content, tmp_path / "wrong.safetensors")
        with pytest.raises(InputError, match=words):
            read_head(tmp_path / "wrong.safetensors", 768)
    with pytest.raises(InputError, match="of 768 numbers, and the CLIP model gives 512; LAION's"):
        read_head(predictor, 512)
    with pytest.raises(InputError, match="no such file"):
        read_head(tmp_path / "none.safetensors", 768)


def test_weights_and_preprocessing_are_in_the_hash(clip: Path, predictor: Path, tmp_path: Path) -> None:
    import shutil

    plain = ClipScorer(str(clip), Caption(), device="cpu").hash
    moved = shutil.copytree(clip, tmp_path / "moved")
    assert ClipScorer(str(moved), Caption(), device="cpu").hash == plain
    model = CLIPModel.from_pretrained(moved)
    with torch.no_grad():
        model.logit_scale.add_(1)
    model.save_pretrained(moved)
    others = {
        ClipScorer(str(moved), Caption(), device="cpu").hash,
        ClipScorer(str(clip), Caption(kind="long"), device="cpu").hash,
        ClipScorer(str(clip), Caption(), head=predictor, device="cpu").hash,
        ClipScorer(str(write_clip(tmp_path / "larger", image_size=40)), Caption(), device="cpu").hash,
    }
    assert len(others | {plain}) == 5


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    T5Config().save_pretrained(tmp_path / "t5")
    with pytest.raises(InputError, match=r"--clip .*a model of kind 't5'; 'clip' is right"):
        ClipScorer(str(tmp_path / "t5"), Caption())
    with pytest.raises(InputError, match=r"--clip .*none: cannot be loaded .* openai/clip-vit-large-patch14"):
        ClipScorer(str(tmp_path / "none"), Caption())


@pytest.mark.skipif(not CC12M.exists(), reason="the shard of photographs is not distributed")
def test_photographs_that_are_decoded_smaller_score_nearly_the_same(clip: Path) -> None:
    from prx_scale.data.sources import open_source

    scorer = ClipScorer(str(clip), Caption(), device="cpu")
    assert scorer.prepare.side == 64
    differences = list[float]()
    for item in open_source(str(CC12M)).samples(0):
        assert isinstance(item, RawSample)
        both = (decode(item), decode(item, at_least=(64, 64)))
        seen = [Seen(sample=item, size=(512, 512), pixels=each) for each in both if isinstance(each, np.ndarray)]
        one, other = scorer.score([scorer.prepare(each) for each in seen])["clip_similarity"]
        assert isinstance(one, float) and isinstance(other, float)
        differences.append(abs(one - other))
    assert len(differences) == 32 and max(differences) < 0.004

"""Frozen autoencoders against diffusers' own way of encoding and decoding."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from autoencoder_folders import write_dc, write_flux2, write_kl
from torch import Tensor

from prx_scale.errors import InputError
from prx_scale.models.encoders.batches import encode_images
from prx_scale.models.encoders.declared import sized_image
from prx_scale.models.encoders.image.base import FrozenImage, statistics_of
from prx_scale.models.encoders.image.load import load_image
from prx_scale.models.encoders.image.moments import Moments, from_channels
from prx_scale.models.encoders.image.normalisation import LatentScale, LatentStatistics
from prx_scale.models.encoders.registry import IMAGE

SIZES = [(64, 64), (32, 96), (160, 64)]
WEIGHTS = "diffusion_pytorch_model.safetensors"
FOLDERS = {"kl-4": "kl4", "kl-8": "kl8", "kl-16": "kl16", "flux2": "flux2", "dc-ae": "dc"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("autoencoders")
    write_kl(folder / "kl4" / "vae", channels=4, scale=0.18215, shift=None)
    write_kl(folder / "kl8", channels=8, scale=0.9, shift=-0.2)
    write_kl(folder / "kl16", channels=16)
    write_flux2(folder / "flux2")
    write_dc(folder / "dc")
    yield folder


def load(name: str, folder: Path, dtype: torch.dtype = torch.float32, scale: LatentScale | None = None) -> FrozenImage:
    inner = folder / "vae" if (folder / "vae").exists() else folder
    return load_image(sized_image(IMAGE[name], inner), str(folder), dtype=dtype, scale=scale)


def images(height: int, width: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(height + width)
    return torch.rand(count, 3, height, width, generator=generator) * 2 - 1


def noise(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "channels"), [("kl-4", 4), ("kl-8", 8), ("kl-16", 16)])
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_kl_agrees_with_diffusers(folders: Path, name: str, channels: int, size: tuple[int, int]) -> None:
    from diffusers import AutoencoderKL

    folder = folders / FOLDERS[name]
    theirs = AutoencoderKL.from_pretrained(folder / "vae" if name == "kl-4" else folder).eval()
    ours, pixels = load(name, folder), images(*size)
    found = theirs.encode(pixels).latent_dist
    moments = ours.encode(pixels)
    assert moments.mean.shape == (2, channels, size[0] // 8, size[1] // 8)
    torch.testing.assert_close(moments.mean, found.mean, rtol=0, atol=1e-6)
    assert moments.std is not None and moments.std.min() > 0
    torch.testing.assert_close(moments.std, found.std, rtol=0, atol=1e-6)

    eps = noise(moments.mean)
    expected = (found.mean + found.std * eps - (theirs.config.shift_factor or 0)) * theirs.config.scaling_factor
    latents = ours.latents(moments, eps)
    torch.testing.assert_close(latents, expected, rtol=0, atol=3e-6)
    raw = latents / theirs.config.scaling_factor + (theirs.config.shift_factor or 0)
    torch.testing.assert_close(ours.decode(latents), theirs.decode(raw).sample, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_flux2_agrees_with_its_pipeline(folders: Path, size: tuple[int, int]) -> None:
    from diffusers import AutoencoderKLFlux2, Flux2Pipeline

    theirs = AutoencoderKLFlux2.from_pretrained(folders / "flux2").eval()
    pipeline = Flux2Pipeline.__new__(Flux2Pipeline)
    pipeline.vae = theirs
    ours, pixels = load("flux2", folders / "flux2"), images(*size)
    moments = ours.encode(pixels)
    assert moments.mean.shape == (2, 16, size[0] // 16, size[1] // 16)
    expected = pipeline._encode_vae_image(pixels, torch.Generator())
    torch.testing.assert_close(ours.latents(moments), expected, rtol=0, atol=3e-6)

    eps = noise(moments.mean)
    found = theirs.encode(pixels).latent_dist
    sampled = pipeline._patchify_latents(found.mean + found.std * pipeline._unpatchify_latents(eps))
    mean, deviation = theirs.bn.running_mean, (theirs.bn.running_var + theirs.config.batch_norm_eps).sqrt()
    assert mean is not None
    expected = (sampled - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(ours.latents(moments, eps), expected, rtol=0, atol=3e-6)

    raw = pipeline._unpatchify_latents(expected * deviation[:, None, None] + mean[:, None, None])
    torch.testing.assert_close(ours.decode(expected), theirs.decode(raw).sample, rtol=0, atol=1e-5)


def test_flux2s_statistics_are_not_rounded_in_bf16(folders: Path) -> None:
    near, exact = (load("flux2", folders / "flux2", dtype).scale for dtype in (torch.bfloat16, torch.float32))
    assert near == exact and len(near.scale) == 16 and near.origin == "batch norm"


def with_statistics(folder: Path, to: Path, **changed: Tensor | None) -> Path:
    """The same weights with other statistics, or without."""
    from safetensors.torch import load_file, save_file

    to.mkdir()
    weights = load_file(folder / WEIGHTS)
    weights |= {f"bn.running_{name}": values for name, values in changed.items() if values is not None}
    for name in (name for name, values in changed.items() if values is None):
        del weights[f"bn.running_{name}"]
    save_file(weights, to / WEIGHTS)
    (to / "config.json").write_bytes((folder / "config.json").read_bytes())
    return to


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_flux2s_statistics_are_read_exactly(folders: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    mean, var = torch.linspace(-3, 3, 16).to(dtype), torch.logspace(-4, 1, 16).to(dtype)
    spec = sized_image(IMAGE["flux2"], with_statistics(folders / "flux2", tmp_path / "vae", mean=mean, var=var))
    assert spec.shift == tuple(mean.double().tolist())
    assert spec.scale == tuple(1 / math.sqrt(each + 1e-4) for each in var.double().tolist())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mean": None}, r"safetensors: bn\.running_mean: missing"),
        ({"var": None}, r"safetensors: bn\.running_var: missing"),
        ({"mean": torch.full((16,), math.nan)}, r"safetensors: bn\.running_mean: nan at channel 0"),
        ({"var": torch.arange(16.0) - 1}, r"safetensors: bn\.running_var: -1\.0 at channel 0; .* at least 0"),
        ({"var": torch.tensor([1.0, math.inf] * 8)}, r"safetensors: bn\.running_var: inf at channel 1"),
        (
            {"mean": torch.zeros(4)},
            r"safetensors: bn\.running_mean: of shape \[4\]; one number for each of 16",
        ),
        ({"mean": torch.zeros(16, dtype=torch.int32)}, r"safetensors: bn\.running_mean: of type I32"),
    ],
)
def test_wrong_statistics_are_refused(
    folders: Path, tmp_path: Path, changed: dict[str, Tensor | None], message: str
) -> None:
    folder = with_statistics(folders / "flux2", tmp_path / "vae", **changed)
    with pytest.raises(InputError, match=message):
        sized_image(IMAGE["flux2"], folder)


def test_statistics_are_found_in_any_of_several_files_and_not_in_pickled_ones(folders: Path, tmp_path: Path) -> None:
    folder = with_statistics(folders / "flux2", tmp_path / "vae")
    stem = WEIGHTS.removesuffix(".safetensors")
    (folder / WEIGHTS).rename(folder / "b.safetensors")
    with_statistics(folders / "flux2", tmp_path / "first", mean=None, var=None)
    (tmp_path / "first" / WEIGHTS).rename(folder / "a.safetensors")
    index = {"weight_map": {"x": "a.safetensors", "bn.running_mean": "b.safetensors"}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    found = sized_image(IMAGE["flux2"], folder)
    assert found == sized_image(IMAGE["flux2"], folders / "flux2") and found.shift
    (folder / f"{WEIGHTS}.index.json").unlink()
    (folder / f"{stem}.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"\.bin: bn\.running_mean is read from safetensors files only"):
        sized_image(IMAGE["flux2"], folder)


def test_other_statistics_than_those_of_a_recipe_are_refused(folders: Path, tmp_path: Path) -> None:
    spec = sized_image(IMAGE["flux2"], folders / "flux2")
    other = with_statistics(folders / "flux2", tmp_path / "vae", var=torch.ones(16))
    with pytest.raises(InputError, match=r"vae: scale by channel, .*, is not that of 'flux2'"):
        load_image(spec, str(other))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "batch_norm_eps": -1}))
    with pytest.raises(InputError, match=r"config\.json: batch_norm_eps: -1; a number above 0"):
        load_image(spec, str(other))


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_dc_ae_agrees_with_diffusers(folders: Path, size: tuple[int, int]) -> None:
    from diffusers import AutoencoderDC

    theirs = AutoencoderDC.from_pretrained(folders / "dc").eval()
    ours, pixels = load("dc-ae", folders / "dc"), images(*size)
    moments = ours.encode(pixels)
    assert moments.std is None and moments.mean.shape == (2, 8, size[0] // 32, size[1] // 32)
    expected = theirs.encode(pixels).latent * theirs.config.scaling_factor
    torch.testing.assert_close(ours.latents(moments, noise(moments.mean)), expected, rtol=0, atol=1e-6)
    decoded = theirs.decode(expected / theirs.config.scaling_factor).sample
    torch.testing.assert_close(ours.decode(expected), decoded, rtol=0, atol=1e-5)


def test_pixels_are_their_own_latents() -> None:
    encoder = load_image("pixels")
    bytes_ = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    latents = encoder.latents(encoder.encode(bytes_))
    assert latents.dtype == torch.float32 and latents.min() == -1 and latents.max() == 1
    assert torch.equal((latents.double() * 127.5 + 127.5).round().to(torch.uint8), bytes_)
    assert torch.equal(encoder.decode(latents), latents)


@pytest.mark.parametrize("name", list(FOLDERS))
def test_bf16_is_near_float32_and_finite(folders: Path, name: str) -> None:
    pixels, folder = images(64, 96), folders / FOLDERS[name]
    near, exact = (load(name, folder, dtype) for dtype in (torch.bfloat16, torch.float32))
    found, wanted = near.encode(pixels), exact.encode(pixels)
    assert found.mean.dtype == torch.float32 and found.mean.isfinite().all()
    assert 0 < (found.mean - wanted.mean).norm() / wanted.mean.norm() < 0.05
    latents = exact.latents(wanted)
    decoded, expected = near.decode(latents), exact.decode(latents)
    assert decoded.dtype == torch.float32 and decoded.shape == pixels.shape
    assert 0 < (decoded - expected).norm() / expected.norm() < 0.05
    assert not found.mean.is_inference() and not found.mean.requires_grad


@pytest.mark.parametrize("name", list(FOLDERS))
def test_bytes_are_pixels_from_minus_one_to_one(folders: Path, name: str) -> None:
    encoder = load(name, folders / FOLDERS[name])
    bytes_ = ((images(64, 64) + 1) * 127.5).round().to(torch.uint8)
    same = encoder.encode(bytes_.float() / 127.5 - 1)
    assert torch.equal(encoder.encode(bytes_).mean, same.mean)


def test_moments_survive_their_stored_form(folders: Path) -> None:
    moments = load("kl-16", folders / "kl16").encode(images(64, 64))
    stored = moments.on_channels()
    assert stored.shape == (2, 32, 8, 8) and moments.std is not None
    again = from_channels(stored, 16)
    assert again.std is not None and torch.equal(again.mean, moments.mean) and torch.equal(again.std, moments.std)
    plain = load("dc-ae", folders / "dc").encode(images(64, 64))
    assert from_channels(plain.on_channels(), 8).std is None


def test_measured_statistics_bring_every_channel_to_unit_variance(folders: Path) -> None:
    encoder = load("kl-8", folders / "kl8")
    parts = [encoder.encode(images(64, 64, count=3)), encoder.encode(images(96, 32))]
    total = statistics_of(parts[0]) + LatentStatistics() + statistics_of(parts[1])
    assert total.count == 3 * 64 + 2 * 48
    assert LatentStatistics.from_json(total.to_json(), "here") == total
    scale = total.scale()
    measured = load("kl-8", folders / "kl8", scale=scale)
    means = torch.cat([part.mean.flatten(2).transpose(1, 2).flatten(0, 1) for part in parts])
    squares = torch.cat(
        [part.std.square().flatten(2).transpose(1, 2).flatten(0, 1) for part in parts if part.std is not None]
    )
    variance = means.var(dim=0, correction=0) + squares.mean(dim=0)
    torch.testing.assert_close(torch.tensor(scale.scale), variance.rsqrt(), rtol=1e-4, atol=0)
    torch.testing.assert_close(torch.tensor(scale.shift), means.mean(dim=0), rtol=0, atol=1e-5)

    draws = torch.cat(
        [
            measured.latents(part, torch.randn(part.mean.shape, generator=torch.Generator().manual_seed(seed)))
            .transpose(0, 1)
            .flatten(1)
            for part in parts
            for seed in range(40)
        ],
        dim=1,
    )
    torch.testing.assert_close(draws.mean(dim=1), torch.zeros(8), rtol=0, atol=0.05)
    torch.testing.assert_close(draws.std(dim=1), torch.ones(8), rtol=0, atol=0.05)
    again = LatentScale.from_json(scale.to_json(), "here")
    assert again == scale and again.origin == "measured"


def test_scale_and_back() -> None:
    scale = LatentScale(shift=(0.5, -1.0), scale=(2.0, 0.25))
    latents = torch.arange(16.0).reshape(1, 2, 2, 4)
    expected = torch.stack([(latents[0, 0] - 0.5) * 2, (latents[0, 1] + 1) * 0.25])[None]
    assert torch.equal(scale.normalise(latents), expected)
    assert torch.equal(scale.restore(expected), latents)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"shift": [0.0]}, "not a shift and scale of latents"),
        ({"shift": [0.0], "scale": [0.0]}, "a scale is above 0"),
        ({"shift": [float("nan")], "scale": [1.0]}, "finite"),
    ],
)
def test_damaged_scales_are_refused(content: dict[str, list[float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LatentScale.from_json(content, "index.json: latents")


def test_a_channel_that_does_not_vary_is_refused() -> None:
    flat = Moments(mean=torch.stack([torch.zeros(4, 4), torch.eye(4)])[None])
    with pytest.raises(InputError, match=r"channel 0 of the latents has variance 0\.0"):
        statistics_of(flat).scale()
    with pytest.raises(InputError, match="no latents were measured"):
        LatentStatistics().scale()


@pytest.mark.parametrize("name", list(FOLDERS))
def test_images_in_parts_are_the_same(folders: Path, name: str) -> None:
    encoder, pixels = load(name, folders / FOLDERS[name]), images(32, 64, count=5)
    whole, parts = encoder.encode(pixels), encode_images(encoder, pixels, pixels_at_once=2 * 32 * 64)
    torch.testing.assert_close(parts.mean, whole.mean, rtol=0, atol=5e-6)
    one_at_least = encode_images(encoder, pixels, pixels_at_once=1)
    torch.testing.assert_close(one_at_least.mean, whole.mean, rtol=0, atol=5e-6)


@pytest.mark.parametrize("size", [(60, 64), (64, 4), (0, 8)])
def test_sides_that_are_no_multiple_are_refused(folders: Path, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=rf"{size[0]} x {size[1]}: sides are multiples of 8 for 'kl-16'"):
        load("kl-16", folders / "kl16").encode(images(*size))


def test_images_of_another_shape_are_refused(folders: Path) -> None:
    encoder = load("kl-16", folders / "kl16")
    for shape in ((3, 64, 64), (1, 4, 64, 64), (1, 64, 64, 3)):
        with pytest.raises(InputError, match="encoders take"):
            encoder.encode(torch.zeros(shape))


def test_weights_of_other_sizes_are_refused(folders: Path) -> None:
    with pytest.raises(InputError, match="channels is 8, that of 'sd3' 16"):
        load_image("sd3", str(folders / "kl8"))
    with pytest.raises(InputError, match=r"scale is 1\.5305, that of 'flux1' 0\.3611"):
        load_image("flux1", str(folders / "kl16"))
    with pytest.raises(InputError, match="channels is 16, that of 'flux2' 128"):
        load_image("flux2", str(folders / "flux2"))
    with pytest.raises(InputError, match="_class_name: 'AutoencoderDC'; 'repa-e' takes AutoencoderKL"):
        load_image("repa-e", str(folders / "dc"))
    loaded = load_image("sd3", str(folders / "kl16"))
    assert loaded.dtype == torch.bfloat16 and loaded.scale == LatentScale(shift=(0.0609,), scale=(1.5305,))


def test_missing_weights_are_not_filled_up_at_random(folders: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    name = "diffusion_pytorch_model.safetensors"
    weights = load_file(folders / "kl16" / name)
    del weights["decoder.conv_in.weight"]
    save_file(weights, tmp_path / name)
    (tmp_path / "config.json").write_bytes((folders / "kl16" / "config.json").read_bytes())
    with pytest.raises(InputError, match=r"missing, the first of them decoder\.conv_in\.weight"):
        load_image("sd3", str(tmp_path))


def test_an_old_folder_without_a_scale_has_that_of_the_recipe_or_a_measured_one(folders: Path, tmp_path: Path) -> None:
    for file in (folders / "kl16").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    del config["scaling_factor"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_image("flux1", str(tmp_path)).scale == LatentScale(shift=(0.1159,), scale=(0.3611,))
    with pytest.raises(InputError, match=r"config\.json: scaling_factor: missing, and 'repa-e' has none of its own"):
        load_image("repa-e", str(tmp_path))
    measured = LatentScale(shift=(0.1,) * 16, scale=(2.0,) * 16, origin="measured")
    assert load_image("repa-e", str(tmp_path), scale=measured).scale == measured


def test_open_numbers_come_from_the_folder(folders: Path) -> None:
    encoder = load_image("kl-8", str(folders / "kl8"))
    assert encoder.scale == LatentScale(shift=(-0.2,), scale=(0.9,))
    assert encoder.spec.scale == 0.9

"""`prx-scale export`: diffusers' own pipeline samples from the folder, and its images are those of our sampler."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prx_scale.cli import main
from prx_scale.commands.export import Export
from prx_scale.config import RunConfig
from prx_scale.data.shapes.text import encode
from prx_scale.diffusion.draws import Purpose, draw
from prx_scale.diffusion.samplers import euler, guided
from prx_scale.errors import InputError
from prx_scale.evaluation.sampling import sample
from prx_scale.evaluation.weights import load_model
from prx_scale.models.convert.importing import import_weights
from prx_scale.models.embeddings import PositionGrid
from prx_scale.models.inputs import SD3
from prx_scale.runs import load_runs
from prx_scale.study import run_from_json
from tests.prx_scale.models import convert_models as cm
from tests.prx_scale.pipelines import write_components
from tests.prx_scale.training.studies import ENVIRONMENT, run_folder, train, write_study

pytestmark = pytest.mark.slow
CAPTIONS = ["a red square", "two blue circles", "a green triangle above a red circle"]
TOLERANCE = 2e-5


def config_of(run: Path) -> RunConfig:
    (info,) = load_runs(run)
    return run_from_json(info.config, str(run))


@pytest.fixture(scope="module")
def shapes_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on shapes, trained for some steps, with a shift of its times."""
    folder = tmp_path_factory.mktemp("shapes") / "small"
    study = write_study(folder, steps=24, lr=1e-2, more="[objective]\nshift = 2.0\n")
    done = train(study)
    assert done.returncode == 0, done.stderr
    return run_folder(study)


SD3_STUDY = """
[study]
name = "sd3"
[model]
depth = 2
positions = "sin-cos"
position_grid = 12
position_base = 4
[data]
dataset = "random"
image_size = 128
[objective]
shift = 3.0
[training]
steps = 2
batch = 2
warmup = 0
lr = 1e-4
start_from = "../weights"
[validation]
every = 2
images = 1
levels = 2
"""


@pytest.fixture(scope="module")
def sd3_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with SD3's inputs, which started from random weights in Stability's layout so that it says something."""
    folder = tmp_path_factory.mktemp("sd3")
    of = cm.sizes(2, channels=SD3.channels, context_dim=SD3.context_dim, pooled_dim=SD3.pooled_dim)
    state = cm.random_theirs("stability", of, PositionGrid(side=12, image=8, base=4).table(of.hidden))
    import_weights(cm.save(state, folder / "theirs.safetensors"), folder / "weights")
    (folder / "study").mkdir()
    (folder / "study" / "study.toml").write_text(SD3_STUDY)
    done = train(folder / "study")
    assert done.returncode == 0, done.stderr
    return run_folder(folder / "study")


def export(run: Path, out: Path, **options: Any) -> Path:
    assert Export(run_dir=run, out=out, **options).run() == 0
    return out


def pipeline(folder: Path) -> Any:
    from diffusers import StableDiffusion3Pipeline

    index = json.loads((folder / "model_index.json").read_text())
    null = [name for name, value in index.items() if value == [None, None]]
    loaded = StableDiffusion3Pipeline.from_pretrained(folder, **dict.fromkeys(null))
    loaded.set_progress_bar_config(disable=True)
    return loaded


def even_times(steps: int) -> list[float]:
    return np.linspace(1, 0, steps + 1)[:-1].tolist()


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_the_pipeline_draws_the_shapes_that_our_sampler_draws(shapes_run: Path, weights: str, tmp_path: Path) -> None:
    run = config_of(shapes_run)
    ours = sample(load_model(run, shapes_run, 24, weights), run, CAPTIONS)
    pipe = pipeline(export(shapes_run, tmp_path / "out", format="diffusers", weights=weights))
    assert pipe.vae is None and pipe.text_encoder is None and pipe.scheduler.config.shift == 2.0
    noise = draw(run.evaluation.seed, Purpose.SAMPLING, np.arange(len(CAPTIONS)), (3, 16, 16)).noise
    context, pooled = (torch.from_numpy(states) for states in encode(CAPTIONS))
    call = {
        "prompt_embeds": context,
        "pooled_prompt_embeds": pooled,
        "negative_prompt_embeds": torch.zeros_like(context),
        "negative_pooled_prompt_embeds": torch.zeros_like(pooled),
        "latents": torch.from_numpy(noise),
        "guidance_scale": run.evaluation.guidance,
        "num_inference_steps": run.evaluation.steps,
        "output_type": "latent",
    }
    theirs = pipe(**call, sigmas=even_times(run.evaluation.steps)).images.numpy()
    assert abs(ours - noise).max() > 0.5
    np.testing.assert_allclose(theirs, ours, atol=TOLERANCE, rtol=0)
    # The times that the scheduler makes itself are shifted twice at their end: other images, of the same model.
    own_times = pipe(**call).images.numpy()
    assert abs(own_times - ours).max() > 0.01


def test_a_run_that_is_told_sizes_leaves_as_a_model_of_one_size(tmp_path: Path) -> None:
    study = write_study(tmp_path / "told", steps=24, lr=1e-2)
    text = (study / "study.toml").read_text().replace("patch = 4\n", "patch = 4\nsize_conditioning = true\n")
    (study / "study.toml").write_text(text)
    done = train(study)
    assert done.returncode == 0, done.stderr
    run, told = run_folder(study), config_of(run_folder(study))
    for options, message in (
        ({"format": "diffusers"}, r"size_conditioning: the diffusers layout .* --image-size N folds"),
        ({"format": "stability"}, r"size_conditioning: the stability layout"),
        ({"format": "stability", "image_size": 20}, r"--image-size 20: .* multiples of 4 up to 16"),
        ({"format": "prx", "image_size": 16}, "holds the embedder of sizes whole"),
    ):
        with pytest.raises(InputError, match=message):
            export(run, tmp_path / "out", **options)
        assert [path.name for path in tmp_path.iterdir()] == ["told"]
    pipe = pipeline(export(run, tmp_path / "out", format="diffusers", image_size=16))
    assert json.loads((tmp_path / "out" / "export.json").read_text())["image_size"] == 16
    ours = load_model(told, run, 24, "ema")
    assert ours.size_embed is not None and ours.size_embed.second.weight.any()
    context, pooled = (torch.from_numpy(states) for states in encode(CAPTIONS))
    z = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = ours(z, t=torch.tensor([0.2, 0.5, 0.9]), context=context, pooled=pooled)
        theirs = pipe.transformer(z, context, pooled, timestep=1000 * torch.tensor([0.2, 0.5, 0.9])).sample
    torch.testing.assert_close(theirs, expected, atol=1e-5, rtol=1e-5)
    export(run, tmp_path / "whole", format="prx")
    assert json.loads((tmp_path / "whole" / "weights.json").read_text())["sizes"]["size_conditioning"] is True


@torch.no_grad()
def test_with_encoders_and_autoencoder_the_images_are_those_of_our_sampler(sd3_run: Path, tmp_path: Path) -> None:
    parts = write_components(tmp_path / "parts", context_dim=4096, pooled_dim=2048, channels=16)
    folder = export(sd3_run, tmp_path / "out", format="diffusers", components=(str(parts),))
    pipe = pipeline(folder)
    run = config_of(sd3_run)
    prompts, steps, guidance = ["a red cube", "two dogs"], 6, 4.5
    height, width = 96, 160
    noise = torch.randn(2, 16, height // 8, width // 8, generator=torch.Generator().manual_seed(7))
    call = {"latents": noise, "guidance_scale": guidance, "num_inference_steps": steps, "max_sequence_length": 77}
    theirs = pipe(
        prompts, height=height, width=width, sigmas=even_times(steps), output_type="np", **call
    ).images  # (B, H, W, 3) in [0, 1]
    context, negative, pooled, negative_pooled = pipe.encode_prompt(
        prompts, prompts, prompts, device="cpu", max_sequence_length=77
    )
    assert context.shape == (2, 154, 4096) and pooled.shape == (2, 2048)
    model = load_model(run, sd3_run, 2, "ema")
    velocity = guided(
        lambda z, t: model(z, t=t, context=context, pooled=pooled),
        lambda z, t: model(z, t=t, context=negative, pooled=negative_pooled),
        guidance,
    )
    latents = euler(velocity, noise, steps, run.shift)
    assert (latents - noise).abs().max() > 0.5
    pixels = pipe.vae.decode(latents / 1.5305 + 0.0609).sample
    ours = pipe.image_processor.postprocess(pixels, output_type="np")
    assert theirs.shape == (2, height, width, 3) and theirs.std() > 0.01
    np.testing.assert_allclose(theirs, ours, atol=TOLERANCE, rtol=0)


def test_a_fresh_process_samples_with_what_the_verb_prints(
    shapes_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(shapes_run, tmp_path / "out", format="diffusers")
    printed = re.sub(r" +", " ", capsys.readouterr().out.replace("\n", " "))
    load = re.search(r"pipe = StableDiffusion3Pipeline\.from_pretrained\([^)]*\)", printed)
    times = re.search(r"sigmas=numpy.*\[:-1\]", printed)
    assert load and times
    code = (
        "import numpy, torch; from diffusers import StableDiffusion3Pipeline\n"
        f"{load.group()}\nsteps = 2\n"
        "states = dict(prompt_embeds=torch.zeros(1, 7, 64), pooled_prompt_embeds=torch.zeros(1, 64))\n"
        f"made = pipe(**states, guidance_scale=1, num_inference_steps=steps, output_type='latent', {times.group()})\n"
        "print(tuple(made.images.shape))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "(1, 3, 16, 16)", done.stderr


def test_stability_and_own_formats_hold_the_same_weights(shapes_run: Path, tmp_path: Path) -> None:
    hashes = {
        form: import_weights(export(shapes_run, tmp_path / form, format=form) / name, tmp_path / f"{form}-in").info.hash
        for form, name in (("diffusers", ""), ("stability", "model.safetensors"))
    }
    own = export(shapes_run, tmp_path / "prx", format="prx")
    assert json.loads((own / "weights.json").read_text())["hash"] == hashes["diffusers"] == hashes["stability"]
    raw = export(shapes_run, tmp_path / "raw", format="prx", weights="raw", step=6)
    written = json.loads((raw / "weights.json").read_text())
    assert written["hash"] != hashes["diffusers"]
    assert (written["source"]["step"], written["source"]["weights"]) == (6, "raw")


def test_the_default_folder_is_in_the_run_and_is_not_written_twice(shapes_run: Path) -> None:
    assert Export(run_dir=shapes_run, format="prx").run() == 0
    folder = shapes_run / "export" / "prx-24-ema"
    assert (folder / "model.safetensors").exists()
    with pytest.raises(InputError, match="is not empty; --overwrite"):
        Export(run_dir=shapes_run, format="prx").run()
    assert Export(run_dir=shapes_run, format="prx", overwrite=True).run() == 0
    assert [path.name for path in folder.parent.iterdir()] == ["prx-24-ema"]


def wrong(parts: Path) -> list[tuple[dict[str, Any], str]]:
    """Options of an export that cannot be, and what is said."""
    return [
        ({"step": 7}, r"--step 7: .* no such checkpoint; steps kept: 6, 12, 18, 24"),
        ({"components": ("vea=x",)}, "'vea' is not a component; did you mean 'vae'"),
        ({"components": (str(parts / "vae"),)}, "no pipeline"),
        ({"components": (f"vae={parts / 'none'}",)}, r"--components vae: .*config\.json: cannot be read"),
        ({"components": (f"vae={parts / 'vae'}",)}, "vae: latent_channels: 16, but the transformer takes 3"),
        (
            {"components": (f"text_encoder_3={parts / 'text_encoder_3'}",)},
            "d_model: 4096, but the .* takes 64",
        ),
        ({"components": (str(parts),)}, "projection_dim: 2048, but the transformer takes 64"),
        ({"components": (str(parts),), "format": "prx"}, "only --format diffusers has components"),
    ]


def test_what_cannot_be_exported_is_named_and_nothing_is_written(shapes_run: Path, tmp_path: Path) -> None:
    parts = write_components(tmp_path / "parts", context_dim=4096, pooled_dim=2048, channels=16)
    for options, message in wrong(parts):
        with pytest.raises(InputError, match=message):
            export(shapes_run, tmp_path / "out", **{"format": "diffusers", **options})
        assert [path.name for path in tmp_path.iterdir()] == ["parts"]
    with pytest.raises(InputError, match="no such folder"):
        export(tmp_path / "none", tmp_path / "out", format="prx")
    run = shutil.copytree(shapes_run, tmp_path / "damaged")
    for file in (run / "checkpoint" / "step-18").glob("*.distcp"):
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"step-18: this checkpoint is damaged: .* bytes; --step chooses another"):
        export(run, tmp_path / "out", format="stability", step=18)
    assert not (tmp_path / "out").exists()


def test_bad_input_exits_with_2(
    shapes_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prx-scale", "export", str(shapes_run), "--format", "prx", "--step", "5"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "error: --step 5: " in capsys.readouterr().err

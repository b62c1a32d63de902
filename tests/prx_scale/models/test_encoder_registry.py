"""The registry against the published models' sizes and the page that shows it; combinations that do not go together."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prx_scale.errors import InputError
from prx_scale.models.encoders.combinations import check_combination, inputs_of_encoders
from prx_scale.models.encoders.registry import IMAGE, TEXT, ImageSpec, TextSpec, image_spec, text_spec
from prx_scale.models.inputs import SD3, SHAPES, SHAPES_TWO_ENCODERS, Inputs

ROOT = Path(__file__).parents[3]
THREE = ("clip-l", "clip-g", "t5")


def unnamed(inputs: Inputs) -> Inputs:
    return replace(inputs, encoders=tuple(replace(each, name="") for each in inputs.encoders))


def test_the_three_of_sd3_make_sd3s_layout() -> None:
    assert inputs_of_encoders(text=THREE, image="sd3") == SD3
    assert inputs_of_encoders(text=("t5", "clip-l", "clip-g"), image="kl-16") == SD3
    assert check_combination(text=THREE, image="sd3", resolution=256, patch=2, weight_sets=3) == SD3


def test_the_embedded_encoders_make_the_layouts_of_the_shapes() -> None:
    assert unnamed(inputs_of_encoders(text=["shapes"], image="pixels")) == unnamed(SHAPES)
    assert unnamed(inputs_of_encoders(text=["shapes-words", "shapes"], image="pixels")) == unnamed(SHAPES_TWO_ENCODERS)


def test_encoders_of_their_own_tokens_follow_each_other() -> None:
    inputs = inputs_of_encoders(text=["t5gemma", "clip-l", "gemma"], image="dc-ae")
    assert inputs.channels == 32 and inputs.context_dim == 2304 and inputs.pooled_dim == 768
    places = {each.name: (each.tokens, each.channels, each.pooled) for each in inputs.encoders}
    assert places == {
        "clip-l": ((0, 77), (0, 768), (0, 768)),
        "t5gemma": ((77, 333), (0, 2304), (0, 0)),
        "gemma": ((333, 589), (0, 2304), (0, 0)),
    }
    assert inputs.text_tokens == 589 and inputs.token_groups == (77, 256, 256)


def test_other_lengths_and_sizes_are_specs_of_ones_own() -> None:
    long = replace(TEXT["t5"], tokens=256)
    assert inputs_of_encoders(text=["clip-l", "clip-g", long], image="sd3").text_tokens == 333


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": []}, "text: no text encoder; name at least one"),
        ({"text": ["t5xxl"]}, r"text: 't5xxl' is not a text encoder; did you mean 't5'\?"),
        ({"image": "sd4"}, "image: 'sd4' is not an image encoder; did you mean"),
        ({"text": ["t5", "clip-l", "t5"]}, "text: 't5' is there twice"),
        ({"text": ["clip-l", "t5", "t5gemma"]}, "'t5' has states of width 4096, 't5gemma' of 2304"),
        ({"text": ["clip-l", "shapes"]}, "know only the words of the drawn shapes; 'clip-l' does not go"),
        ({"text": [replace(TEXT["clip-l"], tokens=64)]}, "'clip-l': 64 tokens; CLIP has 77"),
        (
            {"text": ["clip-l", "clip-g", replace(TEXT["gemma"], name="small", width=640)]},
            "'clip-l' and 'clip-g' are 2048 wide together, more than the 640 of 'small'",
        ),
        ({"resolution": 264}, "264 pixels are no multiple of 16: a patch of 2 latents of 'sd3', 8 pixels each; 256 or"),
        ({"resolution": (256, 200)}, "200 pixels are no multiple of 16.* 192 or 208 would do"),
        ({"resolution": 8}, "8 pixels are no multiple of 16.*; 16 would do"),
        (
            {"image": "flux2", "resolution": 272},
            "272 pixels are no multiple of 32: a patch of 2 latents of 'flux2', 16",
        ),
        ({"image": "dc-ae", "resolution": 288, "patch": 2}, "288 pixels are no multiple of 64"),
        ({"weight_sets": 3, "text": ["clip-l", "clip-g"]}, r"give 1 \(clip-l with clip-g\); CLIPs count as one"),
        ({"weight_sets": 3, "text": ["clip-l", "gemma", "t5gemma"]}, r"give 3 \(clip-l; gemma; t5gemma\)"),
    ],
)
def test_a_wrong_combination_is_refused(changes: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {"text": THREE, "image": "sd3", "resolution": 256, "patch": 2}
    check_combination(**right)
    with pytest.raises(InputError, match=rf"^study\.toml: \[data\].*: .*{message}"):
        check_combination(**{**right, **changes}, where="study.toml: [data]")


def test_encoders_may_give_no_pooled_state_and_mask_their_padding() -> None:
    inputs = check_combination(text=["qwen2.5-vl"], image="flux1", resolution=(512, 1024), patch=2)
    assert inputs.pooled_dim == 0 and inputs.text_tokens == 512 and inputs.masked
    assert not SD3.masked and not inputs_of_encoders(text=["t5"], image="sd3").masked
    both = inputs_of_encoders(text=["clip-l", "t5gemma"], image="sd3")
    assert {each.name: each.masked for each in both.encoders} == {"clip-l": False, "t5gemma": True}


def test_nothing_is_loaded_to_find_out() -> None:
    code = (
        "import sys\nfrom prx_scale.models.encoders.combinations import check_combination\n"
        "check_combination(text=['clip-l', 't5'], image='flux2', resolution=512, patch=1)\n"
        "print({'torch', 'transformers', 'diffusers', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


def test_sizes_of_what_is_stored() -> None:
    """The SD3 paper's bytes per image: 121.3 kB, 202.2 kB and 630.7 kB of text, with float32 pooled states."""
    assert TEXT["clip-l"].bytes_per_caption() == 77 * 768 * 2 + 768 * 2
    assert TEXT["t5"].bytes_per_caption() == 630_784
    assert IMAGE["sd3"].bytes_per_image(256 * 256, item=4) == 2 * 65_536
    assert IMAGE["dc-ae"].bytes_per_image(512 * 512) == 16 * 16 * 32 * 2
    assert IMAGE["pixels"].bytes_per_image(64 * 64, item=1) == 64 * 64 * 3


def published() -> dict[str, Any]:
    """The text models in the sizes that their publishers' config.json have, without weights."""
    import torch
    import transformers
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen

    clip_l = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    clip_g = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
    t5 = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "vocab_size": 32128}
    gemma = {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8}
    gemma |= {"num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000}
    part = transformers.T5GemmaModuleConfig(**gemma)
    vl = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28}
    vl |= {"num_key_value_heads": 4, "vocab_size": 152064}
    with torch.device("meta"):
        return {
            "clip-l": transformers.CLIPTextModel(transformers.CLIPTextConfig(**clip_l, projection_dim=768)),
            "clip-g": transformers.CLIPTextModelWithProjection(
                transformers.CLIPTextConfig(**clip_g, projection_dim=1280)
            ),
            "t5": transformers.T5EncoderModel(transformers.T5Config(**t5, feed_forward_proj="gated-gelu")),
            "t5gemma": transformers.T5GemmaEncoderModel(
                transformers.T5GemmaConfig(encoder=part, decoder=part, is_encoder_decoder=False)
            ),
            "gemma": transformers.Gemma2Model(transformers.Gemma2Config(**gemma)),
            "qwen2.5-vl": qwen.Qwen2_5_VLTextModel(transformers.Qwen2_5_VLConfig(text_config=vl).text_config),
        }


@pytest.mark.slow
def test_parameters_are_those_of_the_published_models() -> None:
    models = published()
    assert sorted(models) == sorted(name for name, spec in TEXT.items() if spec.kind != "shapes")
    for name, model in models.items():
        unique = {id(each): each.numel() for each in model.parameters()}
        assert sum(unique.values()) == TEXT[name].parameters, name
        assert model.get_input_embeddings().weight.shape[1] == TEXT[name].width, name


def rows(page: str, title: str) -> list[list[str]]:
    section = page.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def text_row(spec: TextSpec) -> list[str]:
    pad = {"eos": "end of text"}.get(str(spec.pad), str(spec.pad))
    padding = "masked, zero" if spec.masked else "" if spec.kind == "shapes" else f"{pad}, read"
    size = f"{spec.parameters / 1e9:.2f}B" if spec.parameters else ""
    per_caption = f"{spec.bytes_per_caption() / 1e3:.1f} kB"
    tokens, width, pooled = str(spec.tokens), str(spec.width), str(spec.pooled or "")
    return [spec.name, tokens, width, pooled, padding, size, per_caption, spec.hub]


def image_row(spec: ImageSpec) -> list[str]:
    numbers = "of its config.json" if spec.scale is None else f"{spec.scale:g}, {spec.shift:g}"
    how = {"scale": numbers, "batch norm": "by channel, of its weights", "none": ""}[spec.normalisation]
    stored = f"{spec.bytes_per_image(256 * 256) / 1e3:.1f} kB"
    gives = "latents" if spec.deterministic else "moments"
    return [spec.name, str(spec.channels), str(spec.downsampling), how, gives, stored, spec.hub]


def test_the_page_shows_the_registry() -> None:
    page = (ROOT / "docs" / "encoders.md").read_text("utf-8")
    assert rows(page, "Text encoders") == [text_row(spec) for spec in TEXT.values()]
    assert rows(page, "Image encoders") == [image_row(spec) for spec in IMAGE.values()]


def test_hub_ids_are_of_the_form_that_is_read() -> None:
    for spec in (*TEXT.values(), *IMAGE.values()):
        assert not spec.hub or re.fullmatch(r"[\w.-]+/[\w.-]+(/vae)?", spec.hub), spec.name


def test_specs_are_handed_back() -> None:
    assert text_spec(TEXT["t5"]) is TEXT["t5"] and image_spec(IMAGE["sd3"]) is IMAGE["sd3"]

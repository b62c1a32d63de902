"""Frozen text encoders against the pipelines of diffusers and the models of transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from encoder_folders import write_gemma, write_qwen, write_sd3, write_t5gemma, write_whole_clip

from prx_scale.data.shapes.text import encode
from prx_scale.errors import InputError
from prx_scale.models.encoders.batches import encode_text
from prx_scale.models.encoders.combinations import inputs_of_encoders
from prx_scale.models.encoders.declared import sized_text
from prx_scale.models.encoders.identity import EncoderIdentity
from prx_scale.models.encoders.locating import locate
from prx_scale.models.encoders.registry import TEXT
from prx_scale.models.encoders.states import TextStates, check_right_padded
from prx_scale.models.encoders.text.base import FrozenText, Masked, Pretrained
from prx_scale.models.encoders.text.cleaning import Cleaning, clean
from prx_scale.models.encoders.text.load import load_text
from prx_scale.models.encoders.text.together import TextEncoders, place

LONG = "a red cat on the table, " * 60
CAPTIONS = ["", "a red cat", "über kitten 猫 🐈‍⬛ naïve", LONG, "two  <b>cubes</b> {} {0} \n&amp;", " "]
THREE = ("clip-l", "clip-g", "t5")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("encoders")
    write_sd3(folder / "sd3")
    write_whole_clip(folder / "clip", width=16, projection=20)
    write_t5gemma(folder / "t5gemma")
    write_gemma(folder / "gemma")
    write_qwen(folder / "qwen")
    yield folder


def load(
    name: str, folder: Path, dtype: torch.dtype = torch.float32, cleaning: Cleaning = "none", **changes: int
) -> FrozenText:
    spec = replace(sized_text(TEXT[name], locate(TEXT[name], str(folder)).model), **changes)
    return load_text(spec, str(folder), dtype=dtype, cleaning=cleaning)


def together(folder: Path, dtype: torch.dtype = torch.float32) -> TextEncoders:
    encoders = [load(name, folder, dtype) for name in THREE]
    return TextEncoders(encoders[::-1], inputs_of_encoders(text=[each.spec for each in encoders], image="sd3"))


def test_the_three_of_sd3_agree_with_diffusers(folders: Path) -> None:
    from diffusers import StableDiffusion3Pipeline
    from transformers import AutoTokenizer, CLIPTextModelWithProjection, T5EncoderModel

    root = folders / "sd3"
    models = {
        f"text_encoder{n}": CLIPTextModelWithProjection.from_pretrained(root / f"text_encoder{n}") for n in ("", "_2")
    }
    tokenizers = {f"tokenizer{n}": AutoTokenizer.from_pretrained(root / f"tokenizer{n}") for n in ("", "_2", "_3")}
    pipeline = StableDiffusion3Pipeline(
        transformer=None,
        scheduler=None,
        vae=None,
        text_encoder_3=T5EncoderModel.from_pretrained(root / "text_encoder_3"),
        **models,
        **tokenizers,
    )
    with torch.no_grad():
        theirs, _, pooled, _ = pipeline.encode_prompt(
            CAPTIONS, None, None, device="cpu", do_classifier_free_guidance=False, max_sequence_length=77
        )
    ours = together(root).encode(CAPTIONS)
    assert ours.tokens.shape == (len(CAPTIONS), 154, 48) and ours.pooled.shape == (len(CAPTIONS), 36)
    assert ours.mask is None
    assert theirs.abs().max() > 1, "the comparison is of states that are not small"
    torch.testing.assert_close(ours.tokens, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.pooled, pooled, rtol=0, atol=1e-6)
    assert not ours.tokens[:, :77, 40:].any() and ours.tokens[:, 77:, 40:].any()


def test_padding_is_that_of_the_recipe_whatever_the_tokenizer_says(folders: Path) -> None:
    """OpenAI's and LAION's folders hold the same tokenizer; SD3 pads CLIP-L with the end of text and bigG with 0."""
    encoders = {name: load(name, folders / "clip") for name in ("clip-l", "clip-g")}
    assert {name: each.settings()["pad"] for name, each in encoders.items() if isinstance(each, Pretrained)} == {
        "clip-l": 513,
        "clip-g": 0,
    }
    states = {name: each.encode(["a cat"]) for name, each in encoders.items()}
    assert torch.equal(states["clip-l"].tokens[:, :6], states["clip-g"].tokens[:, :6]), "before padding, the same tower"
    assert not torch.allclose(states["clip-l"].tokens[:, 7:], states["clip-g"].tokens[:, 7:])


def test_pooled_states_of_a_whole_clip(folders: Path) -> None:
    """CLIP-L's is not projected although the folder has a projection; bigG's is."""
    from transformers import AutoTokenizer, CLIPModel

    whole = CLIPModel.from_pretrained(folders / "clip")
    tokens = AutoTokenizer.from_pretrained(folders / "clip")(["a red cat"], return_tensors="pt")
    with torch.no_grad():
        state = whole.text_model(**tokens).pooler_output
        projected = whole.text_projection(state)
    torch.testing.assert_close(load("clip-l", folders / "clip").encode(["a red cat"]).pooled, state)
    torch.testing.assert_close(load("clip-g", folders / "clip").encode(["a red cat"]).pooled, projected)


@pytest.mark.parametrize("side", ["left", "right"])
def test_t5gemma_agrees_with_transformers_on_either_side_of_padding(folders: Path, side: str) -> None:
    from transformers import AutoTokenizer, T5GemmaForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(folders / "t5gemma", padding_side=side)
    model = T5GemmaForConditionalGeneration.from_pretrained(folders / "t5gemma").get_encoder().eval()
    tokens = tokenizer(CAPTIONS, padding="max_length", max_length=256, truncation=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**tokens).last_hidden_state
    ours = load("t5gemma", folders / "t5gemma").encode(CAPTIONS)
    assert ours.mask is not None and ours.mask.sum(dim=1).tolist() == tokens.attention_mask.sum(dim=1).tolist()
    torch.testing.assert_close(ours.tokens[ours.mask], theirs[tokens.attention_mask.bool()], rtol=0, atol=2e-6)
    assert not ours.tokens[~ours.mask].any() and ours.pooled.shape == (len(CAPTIONS), 0)
    check_right_padded(ours.mask, "states")


def test_gemma_agrees_with_transformers(folders: Path) -> None:
    from transformers import AutoTokenizer, Gemma2ForCausalLM

    model = Gemma2ForCausalLM.from_pretrained(folders / "gemma").eval()
    ours = load("gemma", folders / "gemma").encode(CAPTIONS)
    assert ours.mask is not None
    tokenizer = AutoTokenizer.from_pretrained(folders / "gemma")
    for row, caption in enumerate(CAPTIONS):
        tokens = tokenizer(caption, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            theirs = model(**tokens, output_hidden_states=True).hidden_states[-1][0]
        torch.testing.assert_close(ours.tokens[row][ours.mask[row]], theirs, rtol=0, atol=2e-6)


def test_qwen_agrees_with_the_pipeline_of_qwen_image(folders: Path) -> None:
    from diffusers import QwenImagePipeline
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    pipeline = QwenImagePipeline(
        transformer=None,
        scheduler=None,
        vae=None,
        text_encoder=Qwen2_5_VLForConditionalGeneration.from_pretrained(folders / "qwen"),
        tokenizer=AutoTokenizer.from_pretrained(folders / "qwen"),
    )
    captions = [*CAPTIONS[:3], "a cat " * 40, "one more cat " * 150]
    with torch.no_grad():
        theirs, mask = pipeline.encode_prompt(captions, device=torch.device("cpu"), max_sequence_length=512)
    encoder = load("qwen2.5-vl", folders / "qwen")
    assert isinstance(encoder, Masked) and encoder.skipped() == pipeline.prompt_template_encode_start_idx == 34
    ours = encoder.encode(captions)
    assert ours.tokens.shape == (len(captions), 512, 32) and ours.mask is not None and mask is not None
    assert torch.equal(ours.mask, mask.bool()) and mask.sum(dim=1).tolist()[-1] == 512
    torch.testing.assert_close(ours.tokens, theirs, rtol=0, atol=2e-6)


def test_braces_in_captions_are_text(folders: Path) -> None:
    encoder = load("qwen2.5-vl", folders / "qwen")
    assert isinstance(encoder, Masked)
    assert encoder.prompt("{} {0}").count("{} {0}<|im_end|>") == 1


@pytest.mark.parametrize("name", ["t5gemma", "gemma", "qwen2.5-vl"])
def test_states_do_not_depend_on_the_neighbours_in_a_batch(folders: Path, name: str) -> None:
    encoder = load(name, folders / name.split("2")[0])
    whole = encoder.encode(CAPTIONS)
    for row, caption in enumerate(CAPTIONS):
        alone = encoder.encode([caption])
        torch.testing.assert_close(alone.tokens[0], whole.tokens[row], rtol=0, atol=1e-6)
        assert alone.mask is not None and whole.mask is not None and torch.equal(alone.mask[0], whole.mask[row])


def test_a_caption_without_tokens_has_zero_states(folders: Path) -> None:
    encoder = load("gemma", folders / "gemma")
    assert isinstance(encoder, Masked)
    encoder.tokenizer.backend_tokenizer.post_processor = None
    encoder.tokenizer.add_bos_token = False
    states = encoder.encode(["", "a"])
    assert states.mask is not None and states.mask.sum(dim=1).tolist() == [0, 1]
    assert states.tokens.isfinite().all() and not states.tokens[0].any() and states.tokens[1, 0].any()


def test_bf16_is_the_default_and_near_float32(folders: Path) -> None:
    near, exact = together(folders / "sd3", torch.bfloat16).encode(CAPTIONS), together(folders / "sd3").encode(CAPTIONS)
    assert near.tokens.dtype == near.pooled.dtype == torch.bfloat16
    error = (near.tokens.float() - exact.tokens).norm() / exact.tokens.norm()
    assert 0 < error < 0.02
    for part in (near.tokens, near.pooled):
        assert part.isfinite().all() and not part.requires_grad and not part.is_inference()


def test_t5_with_its_decoder_and_pickled_weights(folders: Path, tmp_path: Path) -> None:
    """The form that Google publishes; its shared embedding is the encoder's."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config.from_pretrained(folders / "sd3" / "text_encoder_3")
    config.num_decoder_layers, config.is_encoder_decoder, config.tie_word_embeddings = 1, True, False
    whole = T5ForConditionalGeneration(config).eval()
    config.save_pretrained(tmp_path)
    torch.save(whole.state_dict(), tmp_path / "pytorch_model.bin")
    for file in (folders / "sd3" / "tokenizer_3").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    ours = load("t5", tmp_path)
    assert isinstance(ours, Pretrained) and "model/pytorch_model.bin" in ours.identity().files
    ids = ours.tokenizer("a red cat", padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = whole.encoder(ids).last_hidden_state
    torch.testing.assert_close(ours.encode(["a red cat"]).tokens, theirs, rtol=0, atol=1e-6)


def test_nothing_is_trained(folders: Path) -> None:
    for name, folder in (("clip-g", "sd3"), ("t5", "sd3"), ("t5gemma", "t5gemma"), ("qwen2.5-vl", "qwen")):
        encoder = load(name, folders / folder)
        assert isinstance(encoder, Pretrained)
        modules, parameters = list(encoder.model.modules()), list(encoder.model.parameters())
        assert parameters and not any(each.requires_grad for each in parameters)
        assert not any(each.training for each in modules)


def test_only_the_language_model_of_qwen_is_kept(folders: Path) -> None:
    encoder = load("qwen2.5-vl", folders / "qwen")
    assert isinstance(encoder, Pretrained)
    assert not any("visual" in name for name, _ in encoder.model.named_modules())


def test_the_embedded_encoders_are_those_of_the_shapes() -> None:
    captions = ["", "a red circle", "two squares"]
    context, pooled = encode(captions, 2)
    specs = ["shapes-words", "shapes"]
    encoders = [load_text(name, dtype=torch.float32) for name in specs]
    states = TextEncoders(encoders, inputs_of_encoders(text=specs, image="pixels")).encode(captions)
    assert torch.equal(states.tokens, torch.from_numpy(context))
    assert torch.equal(states.pooled, torch.from_numpy(pooled))
    assert not states.tokens[0].any()


def test_captions_in_parts_are_the_same(folders: Path) -> None:
    encoder = load("t5gemma", folders / "t5gemma")
    whole, parts = encoder.encode(CAPTIONS), encode_text(encoder, CAPTIONS, at_once=4)
    torch.testing.assert_close(parts.tokens, whole.tokens, rtol=0, atol=1e-6)
    assert parts.mask is not None and whole.mask is not None and torch.equal(parts.mask, whole.mask)
    with pytest.raises(InputError, match="nothing to encode"):
        encode_text(encoder, [])


class Narrow:
    """An encoder on a device that holds three captions."""

    def __init__(self, encoder: FrozenText) -> None:
        self.inner, self.spec, self.sizes = encoder, encoder.spec, list[int]()
        self.device, self.dtype = encoder.device, encoder.dtype

    def encode(self, captions: Sequence[str]) -> TextStates:
        self.sizes.append(len(captions))
        if len(captions) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner.encode(captions)

    def identity(self) -> EncoderIdentity:
        return self.inner.identity()


def test_a_device_that_runs_out_of_memory_gets_half(folders: Path) -> None:
    encoder = load("t5", folders / "sd3")
    narrow = Narrow(encoder)
    states = encode_text(narrow, CAPTIONS, at_once=6)
    assert narrow.sizes == [6, 3, 3]
    torch.testing.assert_close(states.tokens, encoder.encode(CAPTIONS).tokens, rtol=0, atol=1e-6)


def test_states_that_do_not_fit_their_place(folders: Path) -> None:
    encoders = [load(name, folders / "sd3") for name in THREE]
    inputs = inputs_of_encoders(text=[each.spec for each in encoders], image="sd3")
    with pytest.raises(InputError, match=r"'t5' are of shape \(1, 77, 47\); its place takes \(1, 77, 48\)"):
        parts = [each.encode(["a"]) for each in encoders]
        place([*parts[:2], TextStates(tokens=parts[2].tokens[..., 1:], pooled=parts[2].pooled)], inputs)
    with pytest.raises(InputError, match="clip-l, clip-g are loaded; the model takes clip-l, clip-g, t5"):
        TextEncoders(encoders[:2], inputs)


def test_masks_of_encoders_with_and_without_one(folders: Path) -> None:
    encoders = [load("clip-l", folders / "sd3"), load("t5gemma", folders / "t5gemma")]
    inputs = inputs_of_encoders(text=[each.spec for each in encoders], image="sd3")
    states = TextEncoders(encoders, inputs).encode(["", "a cat"])
    assert states.mask is not None and states.mask.shape == (2, 77 + 256)
    assert states.mask[:, :77].all() and states.mask[:, 77:].sum(dim=1).tolist() == [1, 6]


def test_padding_on_the_left_is_refused() -> None:
    with pytest.raises(InputError, match="row 1 of the mask has padding before a token"):
        check_right_padded(torch.tensor([[True, True, False], [False, True, True]]), "store")


def test_cleaning() -> None:
    text = "  Caf&amp;eacute;\tau\u200b lait\n№ 5  \U0001f468\u200d\U0001f469 "
    assert clean(text) == text
    assert clean(text, "light") == "Café au lait № 5 \U0001f468\u200d\U0001f469"
    assert clean("e\u0301", "light") == "é"
    assert clean("broken \ud83d end") == "broken \ufffd end"
    assert clean("\ud83d\ude00") == "\U0001f600"


def test_light_cleaning_is_used_and_told(folders: Path) -> None:
    plain, light = load("t5", folders / "sd3"), load("t5", folders / "sd3", cleaning="light")
    assert torch.equal(plain.encode(["a & b"]).tokens, light.encode([" a &amp; b "]).tokens)
    assert plain.identity().hash != light.identity().hash


def test_weights_of_other_sizes_or_kinds_are_refused(folders: Path) -> None:
    with pytest.raises(InputError, match=r"config.json: width is 48, that of 't5' 4096"):
        load_text("t5", str(folders / "sd3"))
    with pytest.raises(InputError, match="model_type: 'gemma2'; 't5gemma' takes t5gemma"):
        load_text("t5gemma", str(folders / "gemma"))


def test_missing_weights_are_not_filled_up_at_random(folders: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in (folders / "gemma").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights of .* are missing, the first of them layers.1.mlp.up_proj.weight"):
        load("gemma", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded as"):
        load("gemma", tmp_path)

"""Tiny encoders with random weights, made on the spot, in the folders that the real ones come in."""

from __future__ import annotations

from pathlib import Path

import torch

from prx_scale.models.encoders.registry import QWEN_IMAGE_TEMPLATE

WORDS = ["photo", "of", "red", "cat", "cube", "über", "kitten", "on", "the", "table"]


def _bytes() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write_clip(folder: Path, name: str, *, width: int, projection: int, pad: str, identity: bool = False) -> None:
    """Write a CLIP text tower with projection and its tokenizer, as text_encoder... and tokenizer...

    Args:
        folder: of the pipeline.
        name: behind text_encoder and tokenizer: "", "_2".
        width: hidden size.
        projection: width of the pooled state.
        pad: padding token: "<|endoftext|>" for CLIP-L, "!" for bigG.
        identity: the projection is one, as that of CLIP-L in pipelines of SD3.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    letters = ["!", *(each for each in _bytes() if each != "!")]
    vocabulary = [*letters, *(each + "</w>" for each in letters), "<|startoftext|>", "<|endoftext|>"]
    ids = {token: number for number, token in enumerate(vocabulary)}
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=projection,
        bos_token_id=ids["<|startoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
    )
    model = CLIPTextModelWithProjection(config)
    if identity:
        torch.nn.init.eye_(model.text_projection.weight)
    model.save_pretrained(folder / f"text_encoder{name}")
    tokenizer = CLIPTokenizer(vocab=ids, merges=[], pad_token=pad, model_max_length=77)
    tokenizer.save_pretrained(folder / f"tokenizer{name}")


def write_whole_clip(folder: Path, *, width: int, projection: int) -> None:
    """Write a CLIP with both towers and its tokenizer in one folder, as OpenAI and LAION publish them.

    Args:
        folder: to write into.
        width: hidden size of the text tower.
        projection: width of the projected states.
    """
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    write_clip(folder.with_name(f"{folder.name}-parts"), "", width=width, projection=projection, pad="!")
    parts = folder.with_name(f"{folder.name}-parts")
    text = CLIPTextConfig.from_pretrained(parts / "text_encoder")
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4
    )
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=projection)
    CLIPModel(config).save_pretrained(folder)
    for file in (parts / "tokenizer").iterdir():
        file.rename(folder / file.name)


def write_t5(folder: Path, *, width: int) -> None:
    """Write a T5 encoder and its tokenizer as text_encoder_3 and tokenizer_3.

    Args:
        folder: of the pipeline.
        width: d_model.
    """
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    config = T5Config(
        vocab_size=len(pieces),
        d_model=width,
        d_kv=8,
        d_ff=16,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    T5EncoderModel(config).save_pretrained(folder / "text_encoder_3")
    T5TokenizerFast(vocab=pieces, extra_ids=0).save_pretrained(folder / "tokenizer_3")


def write_sd3(folder: Path, *, widths: tuple[int, int] = (16, 24), width: int = 48) -> Path:
    """Write SD3's three text encoders with their tokenizers.

    Args:
        folder: of the pipeline.
        widths: of CLIP-L's and bigG's states.
        width: of T5's.
    """
    torch.manual_seed(0)
    write_clip(folder, "", width=widths[0], projection=widths[0], pad="<|endoftext|>", identity=True)
    write_clip(folder, "_2", width=widths[1], projection=20, pad="!")
    write_t5(folder, width=width)
    return folder


def _gemma_tokenizer(folder: Path) -> None:
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocabulary = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *(chr(code) for code in range(97, 123))]
    ids = {token: number for number, token in enumerate(vocabulary)}
    GemmaTokenizer(vocab=ids, merges=[], add_bos_token=True).save_pretrained(folder)


_GEMMA = {
    "vocab_size": 300,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


def write_t5gemma(folder: Path, *, width: int = 16) -> Path:
    """Write a whole T5Gemma, encoder and decoder, and its tokenizer in one folder, as Google publishes it.

    Args:
        folder: to write into.
        width: hidden size.
    """
    from transformers import T5GemmaConfig, T5GemmaForConditionalGeneration, T5GemmaModuleConfig

    torch.manual_seed(1)
    part = T5GemmaModuleConfig(**_GEMMA, hidden_size=width)
    config = T5GemmaConfig(encoder=part, decoder=T5GemmaModuleConfig(**part.to_dict()), vocab_size=300)
    T5GemmaForConditionalGeneration(config).save_pretrained(folder)
    _gemma_tokenizer(folder)
    return folder


def write_gemma(folder: Path, *, width: int = 16) -> Path:
    """Write a Gemma 2 with its head and its tokenizer in one folder.

    Args:
        folder: to write into.
        width: hidden size.
    """
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(2)
    Gemma2ForCausalLM(Gemma2Config(**_GEMMA, hidden_size=width)).save_pretrained(folder)
    _gemma_tokenizer(folder)
    return folder


def write_qwen(folder: Path, *, width: int = 32) -> Path:
    """Write a whole Qwen2.5-VL and a tokenizer that cuts Qwen-Image's template as the real one does.

    Args:
        folder: to write into.
        width: hidden size of the language model.
    """
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(3)
    size = _qwen_tokenizer(folder)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": size,
            "hidden_size": width,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 2048,
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
            "bos_token_id": None,
            "eos_token_id": None,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": width,
            "fullatt_block_indexes": [0],
        },
        image_token_id=0,
        video_token_id=1,
        vision_start_token_id=2,
        vision_end_token_id=3,
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    return folder


def _qwen_tokenizer(folder: Path) -> int:
    from transformers import Qwen2Tokenizer

    special = ["<|im_start|>", "<|im_end|>"]
    empty = Qwen2Tokenizer(vocab={each: number for number, each in enumerate(_bytes())}, merges=[])
    text = QWEN_IMAGE_TEMPLATE.replace("<|im_start|>", "").replace("<|im_end|>", "")
    tokenizer = empty.train_new_from_iterator([text] * 4, vocab_size=2000, new_special_tokens=special)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)

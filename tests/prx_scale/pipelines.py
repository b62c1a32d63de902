"""Tiny text encoders, tokenizers and an autoencoder, made on the spot, in the folders of a pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import torch

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


def write_components(folder: Path, *, context_dim: int, pooled_dim: int, channels: int) -> Path:
    """Write two CLIPs with projection, a T5 encoder, their tokenizers and an autoencoder of factor 8.

    Args:
        folder: gets a folder for each, and a model_index.json.
        context_dim: width of T5's states.
        pooled_dim: of both CLIPs' projections together.
        channels: of the autoencoder's latents.
    """
    torch.manual_seed(0)
    _clips(folder, pooled_dim)
    _t5(folder, context_dim)
    _vae(folder, channels)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusion3Pipeline"}))
    return folder


def _clips(folder: Path, pooled_dim: int) -> None:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    vocabulary = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(letter + "</w>" for letter in LETTERS)]
    for name, width in (("", pooled_dim * 3 // 8), ("_2", pooled_dim - pooled_dim * 3 // 8)):
        config = CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            projection_dim=width,
            bos_token_id=0,
            eos_token_id=1,
        )
        CLIPTextModelWithProjection(config).save_pretrained(folder / f"text_encoder{name}")
        ids = {token: number for number, token in enumerate(vocabulary)}
        CLIPTokenizer(vocab=ids, merges=[], model_max_length=77).save_pretrained(folder / f"tokenizer{name}")


def _t5(folder: Path, context_dim: int) -> None:
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    config = T5Config(vocab_size=len(pieces), d_model=context_dim, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder / "text_encoder_3")
    T5TokenizerFast(vocab=pieces, extra_ids=0).save_pretrained(folder / "tokenizer_3")


def _vae(folder: Path, channels: int) -> None:
    from diffusers import AutoencoderKL

    blocks = 4
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(8,) * blocks,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=channels,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    model.save_pretrained(folder / "vae")

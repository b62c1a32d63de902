"""Tiny autoencoders with random weights, made on the spot."""

from __future__ import annotations

from pathlib import Path

import torch


def write_kl(folder: Path, *, channels: int, scale: float = 1.5305, shift: float | None = 0.0609) -> Path:
    """Write an AutoencoderKL of factor 8.

    Args:
        folder: to write into.
        channels: of its latents.
        scale: scaling_factor.
        shift: shift_factor.
    """
    from diffusers import AutoencoderKL

    torch.manual_seed(channels)
    quant = channels == 4
    blocks = 4
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(8,) * blocks,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=channels,
        scaling_factor=scale,
        shift_factor=shift,
        use_quant_conv=quant,
        use_post_quant_conv=quant,
    )
    model.save_pretrained(folder)
    return folder


def write_flux2(folder: Path, channels: int = 4) -> Path:
    """Write an AutoencoderKLFlux2 of factor 8, with statistics that it did not get from training.

    Args:
        folder: to write into.
        channels: of its latents, before they go in patches onto four times as many.
    """
    from diffusers import AutoencoderKLFlux2

    torch.manual_seed(5)
    blocks = 4
    model = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(8,) * blocks,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=channels,
    )
    model.bn.running_mean.normal_()
    model.bn.running_var.uniform_(0.5, 4)
    model.save_pretrained(folder)
    return folder


def write_dc(folder: Path) -> Path:
    """Write an AutoencoderDC of factor 32 and 8 channels.

    Args:
        folder: to write into.
    """
    from diffusers import AutoencoderDC

    torch.manual_seed(6)
    widths = (8, 8, 8, 8, 16, 16)
    model = AutoencoderDC(
        latent_channels=8,
        attention_head_dim=8,
        encoder_block_types=("ResBlock",) * 4 + ("EfficientViTBlock",) * 2,
        decoder_block_types=("ResBlock",) * 4 + ("EfficientViTBlock",) * 2,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=(1,) * 6,
        decoder_layers_per_block=(1,) * 6,
        encoder_qkv_multiscales=((), (), (), (), (5,), (5,)),
        decoder_qkv_multiscales=((), (), (), (), (5,), (5,)),
        scaling_factor=0.41407,
    )
    model.save_pretrained(folder)
    return folder

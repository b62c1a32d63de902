"""prx-scale: scaling laws and experiment analysis of diffusion transformers."""

__version__ = "0.1.0"

"""Diffusion backbones."""

"""Frozen encoders: captions into text states, images into latents. The registry and its rules need no torch."""

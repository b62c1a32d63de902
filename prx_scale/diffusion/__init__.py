"""Noise paths, timestep densities, draws and samplers: pure functions on tensors. t = 0 is data, t = 1 is noise."""

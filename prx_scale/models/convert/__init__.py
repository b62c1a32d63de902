"""Weights of the MM-DiT in the published layouts and back: the same function, tensor by tensor."""

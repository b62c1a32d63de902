"""Training of one run on TorchTitan: trainer, data, validation, averaged weights, record."""

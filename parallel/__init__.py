"""How a model is spread over devices. Knows torch and TorchTitan, and no model by name."""

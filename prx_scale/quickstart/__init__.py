"""The whole chain on the embedded dataset: train a depth ladder, evaluate, fit, predict, check, report."""

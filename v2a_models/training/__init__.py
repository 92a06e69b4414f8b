"""Losses to weights: optimiser, schedule, training loops."""

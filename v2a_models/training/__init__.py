"""Training: optimiser, schedule, average, and the loops around them."""

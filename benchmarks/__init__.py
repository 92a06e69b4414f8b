"""One script per figure quoted anywhere. `python -m benchmarks` runs them all."""

"""One script per figure quoted anywhere. `python -m benchmarks` runs those that need no GPU."""

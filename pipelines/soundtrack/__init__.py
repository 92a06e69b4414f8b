"""Generated windows to a finished track: mixing, loudness, flags."""

"""The raw-waveform systems of the two founding papers (2308.12408, 2404.17608)."""

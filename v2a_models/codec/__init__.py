"""Codecs between waveforms and tokens."""

"""Frozen encoders of pictures and sound, and the loading of their weights."""

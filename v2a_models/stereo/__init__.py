"""Stereo from mono sound, placed by motion in the picture: computed, not learned."""

"""Streams of a copy: those that are left out, and those whose coding changes."""

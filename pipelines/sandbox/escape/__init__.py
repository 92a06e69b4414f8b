"""Attempts to escape from a confined child, as hostile code in a decoder would make them."""

"""Helpers that several tests share, and the places they look at."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

SHARED = REPOSITORY.parent / "shared" / "media"
"""Real footage for trials, where a checkout has it beside it."""

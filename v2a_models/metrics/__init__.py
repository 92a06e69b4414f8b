"""Scores: pure functions over sounds and events."""

"""Metrics: pure functions over sounds and events."""

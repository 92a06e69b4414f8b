"""Clips generated for a comparison, and their scores."""

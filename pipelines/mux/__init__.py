"""Tracks into films, their pictures copied packet by packet."""

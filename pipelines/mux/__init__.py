"""Copies of films with a new sound track; pictures are copied packet by packet."""

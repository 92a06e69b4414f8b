"""Captions and instructions, written by models and from labels."""

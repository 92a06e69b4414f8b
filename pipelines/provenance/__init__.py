"""Marks of synthetic sound: tags, sidecars, signatures, and their verification."""

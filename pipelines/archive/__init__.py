"""Scan of an archive: one row per file."""

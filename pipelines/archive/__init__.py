"""An archive as it is found: one row per file."""

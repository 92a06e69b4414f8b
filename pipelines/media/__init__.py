"""Untrusted media, read in this process: frames and sound by time."""

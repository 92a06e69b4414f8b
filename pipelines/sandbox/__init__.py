"""Child processes, with limits, for untrusted media."""

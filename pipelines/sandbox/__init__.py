"""Untrusted media, read in a child process; every child of ours starts here."""

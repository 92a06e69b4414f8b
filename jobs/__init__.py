"""One module per verb of the `v2a` command line."""

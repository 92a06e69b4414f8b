"""Facts of a film and its tracks: one list, one reader, and what a copy has lost of them."""

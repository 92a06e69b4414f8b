"""Ray Data pipelines: archive, decoding, generation, muxing and reports."""

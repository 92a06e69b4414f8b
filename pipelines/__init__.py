"""Ray Data pipelines: archive, decoding, generation, muxing and reports."""

from pipelines import safe_path

safe_path.check_worker()

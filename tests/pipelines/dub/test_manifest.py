"""Rows of a manifest: seeds that the report can hold. The command line is tested in tests/jobs/dub/test_manifest.py."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.dub import manifest


@pytest.mark.parametrize("seed", ["-1", -1, 2**63, str(2**70), "1e30", 1e30, "0.5", "inf", "seven"])
def test_a_seed_out_of_range_is_refused_with_its_row(seed: Any) -> None:
    words = r"films\.csv, row 3: seed must be a whole number from 0 to 9223372036854775807, not"
    rows = [{"path": "a.mp4", "seed": "7"}, {"path": "b.mp4", "seed": seed}]
    with pytest.raises(manifest.ManifestError, match=words):
        manifest.parse("films.csv", ["path", "seed"], rows)


@pytest.mark.parametrize("seed", [0, "0", "+8", "8.0", 8.0, 2**63 - 1, str(2**63 - 1)])
def test_a_seed_in_range_is_taken_as_it_is(seed: Any) -> None:
    row = manifest.parse("films.csv", ["path", "seed"], [{"path": "a.mp4", "seed": seed}])["a.mp4"]
    assert row.seed == int(seed if isinstance(seed, int) else float(seed) if "." in str(seed) else seed)

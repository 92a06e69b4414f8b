"""Table of motions."""

from __future__ import annotations

from pipelines.foley.actors import ACTORS


def test_motions_are_found_by_their_own_names() -> None:
    assert all(actor.__name__ == name and actor.__doc__ for name, actor in ACTORS.items())
    assert {"swing", "mouth", "passer", "gesture", "still"} <= set(ACTORS)

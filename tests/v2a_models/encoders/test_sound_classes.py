"""Classes of sound and their words."""

from __future__ import annotations

from v2a_models.encoders.sound_classes import CATALOGUE, EVENT_CLASSES, SOUND_CLASSES, read_table


def test_classes_are_those_of_the_table_in_its_order() -> None:
    rows = read_table("sound_classes.csv")
    assert [row["class"] for row in rows] == list(SOUND_CLASSES)
    assert {"dog", "drum", "clock"} <= EVENT_CLASSES and not {"rain", "room", "car"} & EVENT_CLASSES
    assert all(item.words != item.name for item in CATALOGUE)

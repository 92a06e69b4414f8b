"""The generate stage of a dub: windows to sound."""

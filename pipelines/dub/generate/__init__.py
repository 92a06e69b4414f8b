"""The generate stage of a dub: decoded windows to sound, by in-painting, by crossfades, or segment after segment for
models that stream."""

"""Foley scenes: recorded sounds under rendered motion, which train a model for real footage.

As in SynthFoley, one list of events drives picture and sound. Here sounds are recordings (`recordings`), the classes
are those of `v2a_models.encoders.sound_classes`, and pictures need to show motion only: what a thing is, a model learns
from sampled answers of an image classifier (`expectation`), which no drawing could give.
"""

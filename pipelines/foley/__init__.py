"""Parts of the SynthFoley renderer: physics, sound and pictures of small made-up scenes."""

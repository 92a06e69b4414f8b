"""Headers of a copy: facts that FFmpeg's muxers hold only when they are put there."""

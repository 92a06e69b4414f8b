"""Another sound for one part of a film that `v2a dub` has dubbed."""

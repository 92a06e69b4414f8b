"""Times of pictures and sounds on their way from one container into another."""

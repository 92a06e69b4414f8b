"""Published networks that the metrics listen and look with."""

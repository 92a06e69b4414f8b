"""Tables, pages and pictures that people read."""

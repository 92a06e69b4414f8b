"""MMAudio (2412.15322): sound from pictures and text by flow matching."""

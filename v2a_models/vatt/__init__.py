"""VATT: video to audio through text (Liu et al. 2024, arXiv 2411.05679)."""

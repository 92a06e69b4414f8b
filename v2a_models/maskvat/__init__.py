"""MaskVAT: masked generative video-to-audio transformers (Pascual et al. 2024, arXiv 2407.10387)."""

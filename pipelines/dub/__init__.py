"""The dub pipeline: plan, decode, generate, finish."""

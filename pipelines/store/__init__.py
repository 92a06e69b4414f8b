"""The feature store: windows of footage as Parquet, and their order for training."""

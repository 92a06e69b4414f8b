"""Decoded pictures on their way to the models: fields, cropping, tone mapping."""

"""Video-to-audio generators in plain torch: no Ray, no MLflow, no media I/O."""

"""`v2a store STORE`: what a feature store holds."""

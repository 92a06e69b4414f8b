"""The extract pipeline: footage to a feature store."""

"""The published catalog as assets."""

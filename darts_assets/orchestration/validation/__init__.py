"""Validation of the inventory as an asset."""

"""Searches for scenes in STAC catalogs."""

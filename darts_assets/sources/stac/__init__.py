"""Searching STAC catalogs for scenes."""

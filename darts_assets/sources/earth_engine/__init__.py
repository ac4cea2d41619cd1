"""Sentinel-2 scenes in Earth Engine: catalog, STAC items and pixels."""

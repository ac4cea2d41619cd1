"""Sentinel-2 STAC items: parsing, and calibration of their digital numbers."""

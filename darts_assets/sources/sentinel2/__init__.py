"""Sentinel-2 STAC items: parsing, asset layouts, radiometry, calibration."""

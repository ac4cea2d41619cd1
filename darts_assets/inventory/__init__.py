"""The inventory: detections of many scenes merged to sites, year by year, and followed from year to year.

This module imports nothing, so that its columns and parameters can be had without geopandas.
"""

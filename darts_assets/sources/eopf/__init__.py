"""Sentinel-2 Level-2A products of ESA's EOPF: Zarr stores, and the items of its sample service."""

"""Raster files of scenes: integrity checks, downloads, windowed reads."""

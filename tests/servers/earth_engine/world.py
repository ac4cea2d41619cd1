"""TCVIS image collections for the local Earth Engine, and the chunks that a client must return."""

from functools import partial

import numpy as np
from odc.geo.geobox import GeoBox

from darts_assets.cubes import tcvis_spec
from darts_assets.cubes.tcvis import PROVIDER_NAMES, RESOLUTION, collection_of
from tests.servers.earth_engine.expressions import Collections, Image

GRID = tcvis_spec(2024).grid
FULL, PARTLY, EMPTY = (80, 500), (80, 501), (80, 600)
ANTIMERIDIAN = (80, int(360 / RESOLUTION) // 1024)
"""Chunks: all of it in one image; two images with holes and an edge; nothing; both sides of the antimeridian."""


def _lon(col: int) -> float:
    """The left edge of a column of the cube."""
    return -180 + col * RESOLUTION


# West and east edge of each image; the later one lies on top.
_IMAGES = (
    (_lon(499 * 1024), _lon(501 * 1024 + 700)),
    (_lon(501 * 1024 + 300), _lon(501 * 1024 + 900)),
    (179.0, 180.0),
    (-180.0, -179.0),
)


def world() -> Collections:
    """Two vintages with other values each; a third one is an empty collection."""
    collections: dict[str, tuple[Image, ...]] = {
        collection_of(vintage): tuple(
            Image(PROVIDER_NAMES, "uint8", partial(_pixels, vintage, image), partial(_inside, image))
            for image in range(len(_IMAGES))
        )
        for vintage in (2020, 2024)
    }
    return {**collections, collection_of(2022): ()}


def expected(vintage: int, geobox: GeoBox) -> dict[str, np.ndarray]:
    """A chunk by the bands' names in Earth Engine: each pixel from the last image that has one there, else 0."""
    height, width = geobox.shape
    affine = geobox.affine
    col, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    lon = (affine.c + affine.a * col + 180) % 360 - 180
    lat = affine.f + affine.e * row
    chunk = {}
    for name in PROVIDER_NAMES:
        chunk[name] = np.zeros((height, width), dtype="uint8")
        for image in range(len(_IMAGES)):
            values, mask = _pixels(vintage, image, lon, lat)[name]
            np.copyto(chunk[name], values, where=mask & _inside(image, lon, lat))
    return chunk


def _inside(image: int, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    west, east = _IMAGES[image]
    return (lon >= west) & (lon < east) & (lat > 50)


def _pixels(vintage: int, image: int, lon: np.ndarray, lat: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Values that differ from pixel to pixel, band to band, image to image and vintage to vintage; holes in image 1."""
    col, row = np.floor((lon + 180) / RESOLUTION).astype(int), np.floor((90 - lat) / RESOLUTION).astype(int)
    mask = (col // 64 + row // 64) % 3 != 0 if image == 1 else np.ones(lon.shape, bool)
    return {
        name: (((col * 31 + row * 17 + band * 101 + image * 59 + vintage) % 255 + 1).astype("uint8"), mask)
        for band, name in enumerate(PROVIDER_NAMES)
    }

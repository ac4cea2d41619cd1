"""Small pictures of a scene: its colours with the outlines of detections and of the valid area."""

from collections.abc import Mapping

import cv2
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from PIL import Image, ImageDraw, ImageFont

from darts_assets.tiles import geobox_of

BRIGHTEST = 0.2
"""Reflectance that is shown as white."""

EXTENT_COLOR = (90, 220, 255)
DETECTION_COLOR = (255, 40, 140)

_SUBPIXEL_BITS = 4
_CAPTION, _CAPTION_WIDTH = 24, 300  # pixels; of the caption, and the least that it needs
_SCALES = tuple(digit * 10**power for power in range(7) for digit in (1, 2, 5))  # metres
_SHORTEST = 36  # pixels of the scale


def thumbnail(features: xr.Dataset, vectors: Mapping[str, gpd.GeoDataFrame], size: int = 512) -> Image.Image:
    """A picture of a scene, `size` pixels at its longest side (or the tile's own size, where that is smaller).

    Args:
        features: lazy tile with `red`, `green`, `blue` reflectance; 0..0.2 is shown from black to white. It is read
            decimated.
        vectors: `segments` and `extent`, in the tile's CRS.
        size: longest side in pixels.
    """
    geobox = geobox_of(features)
    height, width = geobox.shape
    scale = min(1.0, size / max(height, width))
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    step = max(1, min(height // shape[0], width // shape[1]))
    every = slice(step // 2, None, step)
    # All bands in one go, so that the chunks of all are read and decoded side by side.
    sampled = features[["red", "green", "blue"]].isel(y=every, x=every).compute()
    picture = np.stack([_brightness(band.values, shape) for band in sampled.data_vars.values()], axis=-1)
    for name, color in (("extent", EXTENT_COLOR), ("segments", DETECTION_COLOR)):
        rings = shapely.get_rings(shapely.get_parts(vectors[name].geometry.to_numpy()))
        points, of_point = shapely.get_coordinates(rings, return_index=True)
        columns, rows = geobox.wld2pix(points[:, 0], points[:, 1])
        # OpenCV counts from the centre of the first pixel, grids from its corner.
        x, y = columns * shape[1] / width - 0.5, rows * shape[0] / height - 0.5
        fixed = np.rint(np.stack([x, y], axis=-1) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        lines = np.split(fixed, np.flatnonzero(np.diff(of_point)) + 1) if len(fixed) else []
        cv2.polylines(picture, lines, isClosed=True, color=color, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    return Image.fromarray(picture)


def captioned(picture: Image.Image, metres: float, objects: int) -> Image.Image:
    """A thumbnail with a line under it: what the colours mean, and a scale.

    Args:
        picture: result of `thumbnail`.
        metres: side of one of its pixels on the ground.
        objects: number of detections.
    """
    width, height = max(picture.width, _CAPTION_WIDTH), picture.height + _CAPTION
    image = Image.new("RGB", (width, height), (255, 255, 255))
    image.paste(picture, (0, 0))
    draw, font, middle = ImageDraw.Draw(image), ImageFont.load_default(12), height - _CAPTION // 2
    x = 6.0
    for color, text in ((DETECTION_COLOR, f"thaw slumps: {objects}"), (EXTENT_COLOR, "valid area")):
        draw.rectangle([(x, middle - 4), (x + 9, middle + 4)], fill=color)
        draw.text((x + 13, middle), text, (40, 40, 40), font, anchor="lm")
        x += 25 + draw.textlength(text, font=font)
    ground = next(length for length in _SCALES if length / metres >= _SHORTEST)
    end, start = width - 6.0, width - 6.0 - ground / metres
    draw.line([(start, middle - 4), (start, middle + 4), (end, middle + 4), (end, middle - 4)], fill=(40, 40, 40))
    text = f"{ground // 1000} km" if ground >= 1000 else f"{ground} m"
    draw.text((start - 5, middle), text, (40, 40, 40), font, anchor="rm")
    return image


def _brightness(reflectance: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Reflectance as brightness 0..255, NaN black, brought to `shape`."""
    brightness = np.clip(np.nan_to_num(reflectance) / BRIGHTEST, 0, 1) * 255
    resized: npt.NDArray[np.uint8] = cv2.resize(
        np.rint(brightness).astype(np.uint8), shape[::-1], interpolation=cv2.INTER_AREA
    )
    return resized

"""Chips: a small picture of each detection, in one ZIP file per scene.

A chip shows true colours, the outline, and in a corner the probability. It is north of the scene's grid up, and twice
as wide as the detection, at least 600 m. The members of the ZIP file are not compressed again, so that a web page reads
one chip by an HTTP range; the directory at the end of the file lists them.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import cv2
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from PIL import Image

from darts_assets.plots import DETECTION_COLOR, EXTENT_COLOR
from darts_assets.tiles import geobox_of
from darts_assets.true_colour import NO_DATA, Pixels, stretch, true_colours

CHIPS_FILE = "chips.zip"

SIDE = 176
"""Width and height of a chip in pixels."""

LEAST_WIDTH = 600.0
"""Least ground width in metres."""

MOST_BYTES = 15_000
"""A chip is smaller than this."""

MOST_CHIPS = 10_000
"""Chips of a scene; of more detections the largest have one. The directory of a ZIP file has 65,535 entries."""

DETECTED, NOT_DETECTED = DETECTION_COLOR, EXTENT_COLOR
"""Colour of the outline of a detection, and of an outline of another year where the scene has no detection."""

BANDS = ("red", "green", "blue")

_BLOCK = 1024  # pixels: chips whose centres share a block are read together
_LARGE = 1024  # pixels: a larger window is read by itself, decimated
_INSET, _FRAME = 48, 2
_QUALITIES = (75, 60, 45, 30, 15, 5)
_SUBPIXEL_BITS = 4
_LOCAL_HEADER = 30


@dataclass(frozen=True, slots=True)
class ChipRange:
    """Where a chip lies in its file.

    Attributes:
        offset: of the WebP image, bytes.
        length: bytes.
        width_m: ground width and height in metres.
    """

    offset: int
    length: int
    width_m: float


class _Window(NamedTuple):
    """A square of pixels, which may lie in part outside the grid."""

    row: int
    column: int
    side: int


class DrawnChip(NamedTuple):
    """A chip as a WebP image of `SIDE` x `SIDE`, with the position of its outline in the table."""

    position: int
    image: bytes
    width_m: float


def draw_chips(
    features: xr.Dataset,
    outlines: gpd.GeoSeries,
    probabilities: xr.DataArray | None = None,
    *,
    color: tuple[int, int, int] = DETECTED,
) -> Iterator[DrawnChip]:
    """Draw a chip around each outline; chips near each other are read together, in windows of the bands needed.

    Args:
        features: lazy preprocessed tile with `red`, `green`, `blue` reflectance and optionally `quality_data_mask`.
        outlines: in the CRS of the tile.
        probabilities: lazy, on the same grid, fractions; without it the corner is not drawn.
        color: of the outlines.

    Yields:
        Chips in no particular order; of an outline beside the grid, none.
    """
    geobox = geobox_of(features)
    names = [name for name in (*BANDS, "quality_data_mask") if name in features]
    tile = features[names].drop_attrs()
    if probabilities is not None:
        tile = tile.assign(probabilities=(("y", "x"), probabilities.data))
    metres = abs(geobox.resolution.x)
    windows = _windows(outlines, features)
    with ThreadPoolExecutor(4, thread_name_prefix="chips") as pool:
        for members in _blocks(windows).values():
            large = windows[members[0]].side > _LARGE
            step = max(1, windows[members[0]].side // (2 * SIDE)) if large else 1
            top, left = (min(windows[index][axis] for index in members) for axis in (0, 1))
            bottom, right = (max(windows[index][axis] + windows[index].side for index in members) for axis in (0, 1))
            height, width = geobox.shape
            rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
            if rows.start >= rows.stop or columns.start >= columns.stop:
                continue
            part = tile.isel(y=slice(rows.start, rows.stop, step), x=slice(columns.start, columns.stop, step)).compute()
            bands = {name: part[name].to_numpy() for name in part.data_vars}

            def draw(
                index: int,
                bands: dict[Any, Any] = bands,
                rows: slice = rows,
                columns: slice = columns,
                step: int = step,
            ) -> DrawnChip:
                window = windows[index]
                side = -(-window.side // step)
                cut = {
                    str(name): _cut(
                        values, (window.row - rows.start) // step, (window.column - columns.start) // step, side
                    )
                    for name, values in bands.items()
                }
                rings = _rings(outlines.iloc[index], features, window)
                return DrawnChip(index, encode(_picture(cut, rings, color)), window.side * metres)

            yield from pool.map(draw, members)


def write_chips(path: Path, features: xr.Dataset, segments: gpd.GeoDataFrame, probabilities: xr.DataArray) -> Path:
    """Write the chips of detections, each as `<Region_ID>.webp`.

    Args:
        path: the ZIP file to write.
        features: as of `draw_chips`.
        segments: detections with `Region_ID` and `npixel`, in the tile's CRS; with more than `MOST_CHIPS`, the largest.
        probabilities: as of `draw_chips`.

    Returns:
        `path`.
    """
    chosen = segments.nlargest(MOST_CHIPS, "npixel") if len(segments) > MOST_CHIPS else segments
    ids = chosen["Region_ID"].to_numpy()
    drawn = draw_chips(features, chosen.geometry, probabilities)
    write_chip_file(path, ((f"{ids[chip.position]}", chip) for chip in drawn))
    return path


def write_chip_file(target: Path | IO[bytes], chips: Iterator[tuple[str, DrawnChip]]) -> None:
    """Write chips under their names; the comment of a member is its ground width in metres."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, chip in chips:
            member = zipfile.ZipInfo(f"{name}.webp", (1980, 1, 1, 0, 0, 0))
            member.comment = f"{chip.width_m:g}".encode()
            archive.writestr(member, chip.image)


def read_directory(file: IO[bytes]) -> Mapping[str, ChipRange]:
    """Where the chips of a file lie, by name; reads only its end.

    Args:
        file: seekable file, as written by `write_chip_file`.

    Raises:
        zipfile.BadZipFile: for another file.
    """
    with zipfile.ZipFile(file) as archive:
        return {
            member.filename.removesuffix(".webp"): ChipRange(
                member.header_offset + _LOCAL_HEADER + len(member.filename.encode()),
                member.file_size,
                float(member.comment),
            )
            for member in archive.infolist()
        }


def encode(picture: Pixels) -> bytes:
    """A picture as WebP of less than `MOST_BYTES`.

    Raises:
        ValueError: if it is larger at every quality.
    """
    image = Image.fromarray(picture)
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "webp", quality=quality, method=1)
        if buffer.tell() < MOST_BYTES:
            return buffer.getvalue()
    raise ValueError(f"a chip of {picture.shape[1]} x {picture.shape[0]} pixels has more than {MOST_BYTES} bytes")


def _windows(outlines: gpd.GeoSeries, features: xr.Dataset) -> list[_Window]:
    """The square around each outline."""
    geobox = geobox_of(features)
    metres = abs(geobox.resolution.x)
    left, bottom, right, top = outlines.bounds.to_numpy().T.reshape(4, -1)
    sizes = np.maximum(2 * np.maximum(right - left, top - bottom), LEAST_WIDTH)
    sides = np.maximum(np.ceil(sizes / metres).astype(int), 2)
    columns, rows = geobox.wld2pix((left + right) / 2, (bottom + top) / 2)
    return [
        _Window(round(row - side / 2), round(column - side / 2), int(side))
        for row, column, side in zip(np.atleast_1d(rows), np.atleast_1d(columns), sides, strict=True)
    ]


def _blocks(windows: list[_Window]) -> dict[tuple[int, int, int], list[int]]:
    """Windows by the block of their centre, from top to bottom; a large window stands alone."""
    blocks: dict[tuple[int, int, int], list[int]] = {}
    for index, (row, column, side) in enumerate(windows):
        alone = index + 1 if side > _LARGE else 0
        blocks.setdefault(((row + side // 2) // _BLOCK, (column + side // 2) // _BLOCK, alone), []).append(index)
    return dict(sorted(blocks.items()))


def _cut(values: npt.NDArray[Any], row: int, column: int, side: int) -> npt.NDArray[Any]:
    """A square of an array; outside of it NaN, or 0 for integers."""
    fill = np.nan if values.dtype.kind == "f" else 0
    square = np.full((side, side), fill, dtype=values.dtype)
    top, left = max(row, 0), max(column, 0)
    part = values[top : max(row + side, 0), left : max(column + side, 0)]
    square[top - row : top - row + part.shape[0], left - column : left - column + part.shape[1]] = part
    return square


def _rings(outline: Any, features: xr.Dataset, window: _Window) -> list[npt.NDArray[np.int32]]:
    """The rings of an outline in fixed-point pixels of the chip."""
    rings = shapely.get_rings(shapely.get_parts(outline))
    points, of_point = shapely.get_coordinates(rings, return_index=True)
    if not len(points):
        return []
    columns, rows = geobox_of(features).wld2pix(points[:, 0], points[:, 1])
    scale = SIDE / window.side
    # OpenCV's origin is the centre of the first pixel, that of grids its corner.
    pixels = np.stack([(columns - window.column) * scale - 0.5, (rows - window.row) * scale - 0.5], axis=-1)
    fixed = np.rint(pixels * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    return np.split(fixed, np.flatnonzero(np.diff(of_point)) + 1)


def _picture(bands: Mapping[str, npt.NDArray[Any]], rings: list[npt.NDArray[np.int32]], color: Any) -> Pixels:
    reflectance = np.stack([bands[name] for name in BANDS], axis=-1)
    clear = bands["quality_data_mask"] == 2 if "quality_data_mask" in bands else None
    small = true_colours(np.nan_to_num(reflectance), stretch(reflectance, clear))
    picture = _resized(small, SIDE)
    unknown = np.isnan(reflectance).any(axis=-1).astype(np.uint8)
    if unknown.any():
        picture[_resized(unknown, SIDE, cv2.INTER_NEAREST) == 1] = NO_DATA
    cv2.polylines(picture, rings, isClosed=True, color=color, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    if "probabilities" in bands:
        first = SIDE - _INSET - _FRAME
        picture[first - 1 :, first - 1 :] = 255
        picture[first : first + _INSET, first : first + _INSET] = _heat(bands["probabilities"])
    return picture


def _heat(probabilities: npt.NDArray[Any]) -> Pixels:
    """Probabilities from black (0) over violet and orange to yellow (1), grey without data."""
    shown = _resized(np.nan_to_num(probabilities).astype(np.float32), _INSET)
    colors = cv2.applyColorMap(np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    unknown = _resized(np.isnan(probabilities).astype(np.uint8), _INSET, cv2.INTER_NEAREST) == 1
    return np.where(unknown[..., None], np.uint8(128), colors)


def _resized(values: npt.NDArray[Any], side: int, way: int | None = None) -> npt.NDArray[Any]:
    default = cv2.INTER_AREA if len(values) > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, (side, side), interpolation=default if way is None else way))

"""From probabilities to detections: valid area, threshold, labelled objects and their filters.

Rasters are processed in row windows, so that a full scene needs memory for its labels but not for temporaries of the
same size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cc3d
import cv2
import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import SPREAD
from darts_assets.detection.detection_parameters import PostprocessParameters
from darts_assets.tiles import geobox_of, on_grid, row_windows

CLEAR = 2
"""The lowest `quality_data_mask` value of clear pixels: neither cloud, shadow nor snow."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Objects:
    """8-connected components of a mask, numbered in row-major order of their first pixels.

    Attributes:
        mask: bool (height, width).
        labels: int32 (height, width); 0 is background, objects are 1..n.
        sizes: int64 (n + 1,); pixels per label, with the background's at 0.
    """

    mask: Mask
    labels: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """The number of objects."""
        return len(self.sizes) - 1

    def touching(self, mask: Mask) -> Mask:
        """Whether any pixel of each label lies in `mask` (height, width): bool (n + 1,)."""
        touched = np.zeros(self.count + 1, dtype=bool)
        for rows in row_windows(self.labels.shape[0]):
            touched[self.labels[rows][self.mask[rows] & mask[rows]]] = True
        return touched

    def fraction_in(self, mask: Mask) -> npt.NDArray[np.float64]:
        """The fraction of each object's pixels that lie in `mask` (height, width): float64 (n,)."""
        inside = np.zeros(self.count + 1, dtype=np.int64)
        for rows in row_windows(self.labels.shape[0]):
            within = self.labels[rows][self.mask[rows] & mask[rows]]
            inside += np.bincount(within, minlength=self.count + 1)
        fractions: npt.NDArray[np.float64] = inside[1:] / self.sizes[1:]
        return fractions

    def means(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The mean of `values` (height, width) over each object's pixels: float64 (n,)."""
        sums = np.zeros(self.count + 1)
        for rows in row_windows(self.labels.shape[0]):
            inside = self.mask[rows]
            sums += np.bincount(self.labels[rows][inside], weights=values[rows][inside], minlength=self.count + 1)
        means: npt.NDArray[np.float64] = sums[1:] / self.sizes[1:]
        return means

    def keep(self, selected: Mask) -> None:
        """Clear, in place, the pixels of `mask` whose labels are not `selected` (n + 1,)."""
        for rows in row_windows(self.labels.shape[0]):
            window = self.mask[rows]
            window[window] = selected[self.labels[rows][window]]


def find_objects(mask: Mask) -> Objects:
    """The 8-connected objects of a bool mask (height, width)."""
    labels, count = label(mask)
    sizes = np.zeros(count + 1, dtype=np.int64)
    first = np.full(count + 1, -1, dtype=np.int64)
    # Backwards, so that the first pixel of a label is written last.
    for rows in reversed(list(row_windows(mask.shape[0]))):
        pixels = np.flatnonzero(mask[rows])[::-1]
        of_pixels = labels[rows].ravel()[pixels]
        sizes += np.bincount(of_pixels, minlength=count + 1)
        first[of_pixels] = pixels + rows.start * mask.shape[1]
    sizes[0] = mask.size - sizes.sum()
    order = np.argsort(first)
    if (np.diff(order) != 1).any():
        rank = np.empty(count + 1, dtype=np.int32)
        rank[order] = np.arange(count + 1, dtype=np.int32)
        for rows in row_windows(mask.shape[0]):
            labels[rows] = rank[labels[rows]]
    return Objects(mask, labels, sizes[order])


def label(mask: Mask, connectivity: Literal[4, 8] = 8) -> tuple[npt.NDArray[np.int32], int]:
    """Labels (int32, 1..n in any order) of the connected components of a mask, and n."""
    # As integers: given booleans, cc3d 4.1 labels pixels outside the mask if height and width are odd.
    labels, count = cc3d.connected_components(
        mask.view(np.uint8), connectivity=connectivity, out_dtype=np.uint32, return_N=True
    )
    return labels.view(np.int32), int(count)


def beside_edge(extent: Mask) -> Mask:
    """Pixels (bool, shape of `extent`) with an 8-neighbour outside the valid area or outside the tile."""
    kernel = np.ones((3, 3), np.uint8)
    interior = cv2.erode(extent.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.bitwise_xor(interior, 1, out=interior).view(bool)


def postprocess(
    probabilities: xr.Dataset, quality_data_mask: xr.DataArray, parameters: PostprocessParameters
) -> xr.Dataset:
    """The valid area, and per probability band the probabilities within it and the detected objects.

    A full Sentinel-2 scene needs 1.0 GiB plus 0.6 GiB per band.

    Args:
        probabilities: lazy tile with `probabilities` and, for models of an ensemble, `probabilities-NAME` (0..1, NaN
            means no detection).
        quality_data_mask: 0 invalid, 1 low, 2 high quality, on the same grid.
        parameters: erosion, threshold and filters.

    Returns:
        The tile in memory, on the same grid and with the same attributes: `extent` (bool) and its `clear` pixels (bool,
        high quality whatever `quality_level`), `model_spread` (float32) if the tile has it or the probabilities of
        several models, and for each probability band the band itself (float32, NaN outside `extent`) and
        `binarized_segmentation[-NAME]` (bool).

    Raises:
        ValueError: if there is no probability band or the mask is on another grid.
    """
    geobox = geobox_of(probabilities)
    height, width = geobox.shape
    names = [str(name) for name in probabilities.data_vars if str(name).partition("-")[0] == "probabilities"]
    if not names:
        raise ValueError(f"the tile has no probabilities, only {', '.join(map(str, probabilities.data_vars))}")
    if quality_data_mask.shape != (height, width):
        raise ValueError(f"quality_data_mask has shape {quality_data_mask.shape}, probabilities {(height, width)}")

    smallest = parameters.smallest_object(pixel_area(geobox))
    extent = valid_area(quality_data_mask, parameters)
    clear = np.empty((height, width), dtype=bool)
    for rows in row_windows(height):
        np.logical_and(extent[rows], quality_data_mask.isel(y=rows).values >= CLEAR, out=clear[rows])
    bands: dict[str, npt.NDArray[np.float32] | Mask] = {"extent": extent, "clear": clear}
    spread = model_spread(probabilities, names)
    if spread is not None:
        bands[SPREAD] = spread
    for name in names:
        values = np.empty((height, width), dtype=np.float32)
        binarized = np.empty((height, width), dtype=bool)
        for rows in row_windows(height):
            values[rows] = probabilities[name].isel(y=rows).values
            np.copyto(values[rows], np.nan, where=~extent[rows])
            np.greater(values[rows], np.float32(parameters.threshold), out=binarized[rows])
        filter_objects(binarized, extent, smallest, parameters.drop_edge_objects)
        bands[name] = values
        bands[name.replace("probabilities", "binarized_segmentation", 1)] = binarized
    return on_grid(bands, geobox, probabilities.attrs)


def pixel_area(geobox: GeoBox) -> float:
    """Area of a pixel in square units of the CRS."""
    return abs(float(geobox.affine.determinant))


def model_spread(probabilities: xr.Dataset, names: Sequence[str]) -> npt.NDArray[np.float32] | None:
    """The standard deviation between the models (height, width), from its band or else from those of the models.

    Args:
        probabilities: lazy tile.
        names: its bands of probabilities, of the ensemble and of single models.

    Returns:
        float32; None if the tile has neither the band nor the probabilities of two models.
    """
    models = [name for name in names if "-" in name]
    if SPREAD not in probabilities and len(models) < 2:
        return None
    height, width = geobox_of(probabilities).shape
    spread = np.empty((height, width), dtype=np.float32)
    for rows in row_windows(height):
        if SPREAD in probabilities:
            spread[rows] = probabilities[SPREAD].isel(y=rows).values
        else:
            spread[rows] = np.std([probabilities[name].isel(y=rows).values for name in models], axis=0)
    return spread


def valid_area(quality_data_mask: xr.DataArray, parameters: PostprocessParameters) -> Mask:
    """Pixels of sufficient quality, eroded by a disk and without the tile's border: bool (height, width).

    The disk has radius `mask_erosion_size`; pixels outside the tile do not erode.
    """
    height, width = quality_data_mask.shape
    valid = np.empty((height, width), dtype=bool)
    for rows in row_windows(height):
        np.greater_equal(quality_data_mask.isel(y=rows).values, parameters.lowest_quality, out=valid[rows])
    if parameters.lowest_quality > 0 and parameters.mask_erosion_size > 0:
        # OpenCV's default border value is neutral: the tile's border does not erode.
        valid = np.asarray(cv2.erode(valid.view(np.uint8), disk(parameters.mask_erosion_size))).view(bool)
    border = parameters.border
    valid[:border] = False
    valid[max(0, height - border) :] = False
    valid[:, :border] = False
    valid[:, max(0, width - border) :] = False
    return valid


def disk(radius: int) -> npt.NDArray[np.uint8]:
    """Structuring element of pixels at distance <= `radius`: uint8 (2 radius + 1, 2 radius + 1), 1 inside."""
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)


def filter_objects(binarized: Mask, extent: Mask, smallest: int, drop_edge_objects: bool) -> None:
    """Clear, in place, objects of `binarized` with fewer pixels than `smallest` and, if requested, those at an edge."""
    if smallest <= 1 and not drop_edge_objects:
        return
    objects = find_objects(binarized)
    keep = objects.sizes >= smallest
    if drop_edge_objects:
        keep &= ~objects.touching(beside_edge(extent))
    objects.keep(keep)

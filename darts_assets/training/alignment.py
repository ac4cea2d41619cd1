"""Outlines drawn on one image, shifted to where another image has the same ground: outline by outline.

Planet's orthorectification differs from Sentinel-2's by up to a few pixels, and not by the same everywhere. So a window
around each outline is cut from both images, fine structure is kept (high pass), and the shift is where their
correlation, computed by Fourier transforms with subpixel upsampling (Guizar-Sicairos et al. 2008, as scikit-image's
`phase_cross_correlation` does it), is highest. The cross power is not whitened: that lets noise decide in small windows
(on textured ground with noise of a tenth of the signal, 64 px: errors of 0.8 px whitened, 0.1 px not).

A shift is believed if the shifted windows correlate, and if quarters of the window give the same shift. Where
they do not, the outline stays where it is, and is flagged.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

import cv2
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_reproject
from scipy import ndimage
from shapely.affinity import translate
from skimage.registration import phase_cross_correlation

from darts_assets.errors import SettingsError
from darts_assets.tiles import geobox_of

Image = npt.NDArray[np.float32]
Verdict = Literal["aligned", "no data", "too far", "no correlation", "windows disagree"]

_UPSAMPLING = 100
_SMOOTHING = 4.0
"""Pixels; slower changes than these are of light, haze and season."""
_LEAST_VALID = 0.9
_PASSES = 4
_PASSES_OF_QUARTERS = 2
_SMALLEST = 8


@dataclass(frozen=True, slots=True)
class AlignmentParameters:
    """How outlines are aligned; lengths in pixels of the image that they are shifted to.

    Attributes:
        band: that is compared.
        window: side of the least window around an outline; a larger outline has one of twice its size, up to `largest`.
        largest: side of the largest window.
        max_shift: along each axis.
        min_correlation: of the shifted windows.
        tolerance: by which the shift of a quarter of the window may differ; three of four must agree.

    Raises:
        SettingsError: if something makes no sense.
    """

    band: str = "nir"
    window: int = 96
    largest: int = 256
    max_shift: int = 8
    min_correlation: float = 0.5
    tolerance: float = 0.5

    def __post_init__(self) -> None:
        if not (2 * _SMALLEST <= self.window <= self.largest and self.max_shift >= 1):
            raise SettingsError(
                f"windows of {self.window} to {self.largest} px and shifts up to {self.max_shift} px: windows of at "
                f"least {2 * _SMALLEST} px and shifts of at least 1 px were expected"
            )
        if not (0 < self.min_correlation <= 1 and self.tolerance > 0):
            raise SettingsError(
                f"min_correlation is {self.min_correlation} and tolerance {self.tolerance}; more than 0 was expected, "
                "and a correlation of at most 1"
            )


@dataclass(frozen=True, slots=True)
class Shift:
    """By how much a window of an image must be moved to lie on another.

    Attributes:
        rows: pixels down; NaN where nothing was found.
        cols: pixels to the right.
        correlation: of the windows when shifted, after the high pass; NaN where nothing was found.
        verdict: whether to believe it, and if not, why.
    """

    rows: float
    cols: float
    correlation: float
    verdict: Verdict

    @property
    def reliable(self) -> bool:
        """Whether to believe it."""
        return self.verdict == "aligned"


_NOTHING = Shift(np.nan, np.nan, np.nan, "no data")


def find_shift(moving: Image, fixed: Image, parameters: AlignmentParameters | None = None) -> Shift:
    """The shift that brings `moving` onto `fixed`, judged.

    Args:
        moving: float32, NaN where unknown; `max_shift` pixels on each side are only there to be shifted in.
        fixed: of the same shape.
        parameters: `window` and `largest` do not matter here.
    """
    parameters = parameters or AlignmentParameters()
    margin, shape = parameters.max_shift, np.array(moving.shape)
    if (shape - 2 * margin < 2 * _SMALLEST).any():
        return _NOTHING
    if min(np.isfinite(image).mean() for image in (moving, fixed)) < _LEAST_VALID:
        return _NOTHING
    sharp_moving, sharp_fixed = _high_pass(moving), _high_pass(fixed)
    core = (slice(margin, shape[0] - margin), slice(margin, shape[1] - margin))
    shift, correlation = _shift_of(sharp_moving, sharp_fixed, core, margin)
    if not np.isfinite(shift).all():
        return Shift(np.nan, np.nan, np.nan, "too far" if np.isinf(shift).any() else "no data")
    verdict: Verdict = "aligned"
    if correlation < parameters.min_correlation:
        verdict = "no correlation"
    else:
        quarters = [
            _shift_of(sharp_moving, sharp_fixed, quarter, margin, _PASSES_OF_QUARTERS)[0] for quarter in _quarters(core)
        ]
        agreeing = sum(bool((np.abs(quarter - shift) <= parameters.tolerance).all()) for quarter in quarters)
        if agreeing < 3:
            verdict = "windows disagree"
    return Shift(float(shift[0]), float(shift[1]), correlation, verdict)


def align_labels(
    labels: gpd.GeoDataFrame, drawn_on: xr.DataArray, scene: xr.DataArray, parameters: AlignmentParameters | None = None
) -> gpd.GeoDataFrame:
    """Outlines shifted from the image that they were drawn on to a scene; those that cannot be judged stay.

    Args:
        labels: outlines in any CRS.
        drawn_on: a band of the image that they were drawn on, any grid; averaged over the scene's pixels.
        scene: the same band of the scene; NaN where unknown.
        parameters: windows and limits.

    Returns:
        The outlines in the scene's CRS, with `aligned` (bool), `alignment` (the verdict, or `not covered` for an
        outline outside of the scene), `shift_x` and `shift_y` in the CRS's units (what was measured, also where it was
        not believed and not applied; NaN where nothing was), and `correlation`.
    """
    parameters = parameters or AlignmentParameters()
    grid = geobox_of(scene.to_dataset(name="band"))
    moved = labels.to_crs(str(grid.crs))
    fixed = np.asarray(scene.values, dtype=np.float32)
    moving = _on_grid(drawn_on, grid) if len(labels) else fixed
    shifts = [_shift_at(shape.bounds, moving, fixed, grid, parameters) for shape in moved.geometry]
    records = pd.DataFrame([_record(shift, grid) for shift in shifts], columns=list(_record(None, grid)))
    records.index = moved.index
    applied = np.where(records["aligned"].astype(bool).to_numpy()[:, None], records[["shift_x", "shift_y"]], 0.0)
    shapes = [translate(shape, x, y) for shape, (x, y) in zip(moved.geometry, applied, strict=True)]
    return moved.set_geometry(gpd.GeoSeries(shapes, index=moved.index, crs=moved.crs)).assign(**records)


def unaligned(labels: gpd.GeoDataFrame, why: str) -> gpd.GeoDataFrame:
    """Outlines as they are, with the columns of `align_labels`: for those whose image cannot be had."""
    nothing = {"aligned": False, "alignment": why, "shift_x": np.nan, "shift_y": np.nan, "correlation": np.nan}
    return labels.assign(**nothing)


def _record(shift: Shift | None, grid: GeoBox) -> dict[str, Any]:
    if shift is None:
        return {
            "aligned": False,
            "alignment": "not covered",
            "shift_x": np.nan,
            "shift_y": np.nan,
            "correlation": np.nan,
        }
    return {
        "aligned": shift.reliable,
        "alignment": shift.verdict,
        "shift_x": shift.cols * grid.affine.a,
        "shift_y": shift.rows * grid.affine.e,
        "correlation": shift.correlation,
    }


def _shift_at(
    bounds: Iterable[float], moving: Image, fixed: Image, grid: GeoBox, parameters: AlignmentParameters
) -> Shift | None:
    """The shift around some bounds; None where they lie outside of the grid."""
    left, bottom, right, top = bounds
    cols, rows = grid.wld2pix(np.array([left, right]), np.array([top, bottom]))
    size = int(np.clip(2 * max(np.ptp(rows), np.ptp(cols)), parameters.window, parameters.largest))
    window = []
    for (start, stop), length in zip((rows, cols), fixed.shape, strict=True):
        if not (0 <= (start + stop) / 2 <= length):
            return None
        side = min(size + 2 * parameters.max_shift, length)
        first = int(np.clip(round((start + stop - side) / 2), 0, length - side))
        window.append(slice(first, first + side))
    return find_shift(moving[tuple(window)], fixed[tuple(window)], parameters)


def _on_grid(band: xr.DataArray, grid: GeoBox) -> Image:
    values = band.astype(np.float32)
    if geobox_of(values.to_dataset(name="band")) == grid:
        return np.asarray(values.values)
    finer = abs(band.odc.geobox.resolution.x) < abs(grid.resolution.x)
    warped = xr_reproject(values, grid, resampling="average" if finer else "cubic", dst_nodata=np.nan)
    return np.asarray(warped.values, dtype=np.float32)


def _high_pass(image: Image) -> Image:
    known = np.isfinite(image)
    filled = np.where(known, image, image[known].mean()).astype(np.float32)
    sharp = filled - cv2.GaussianBlur(filled, (0, 0), _SMOOTHING)
    return np.asarray(np.where(known, sharp, 0), dtype=np.float32)


def _quarters(core: tuple[slice, slice]) -> list[tuple[slice, slice]]:
    halves = []
    for axis in core:
        middle = (axis.start + axis.stop) // 2
        halves.append((slice(axis.start, middle), slice(middle, axis.stop)))
    return [(rows, cols) for rows in halves[0] for cols in halves[1]]


def _shift_of(
    moving: Image, fixed: Image, window: tuple[slice, slice], furthest: int, passes: int = _PASSES
) -> tuple[npt.NDArray[np.float64], float]:
    """Shift (rows, cols) of a window and its correlation; NaN where there is no structure, infinite if too far.

    The window's taper pulls an estimate towards 0. So the image is moved by what was found, and what then remains is
    added, until that is nothing.
    """
    taper = np.outer(*(np.hanning(axis.stop - axis.start) for axis in window))
    target = cast(Any, fixed[window] * taper)
    shift, moved = np.zeros(2), moving
    spline = ndimage.spline_filter(moving, order=3, output=np.float32)
    for turn in range(passes):
        source = moved[window] * taper
        if not (source.any() and target.any()):
            return np.full(2, np.nan), np.nan
        rest, error, _ = phase_cross_correlation(target, source, upsample_factor=_UPSAMPLING, normalization=None)
        shift = shift + rest
        if (np.abs(shift) > furthest).any():
            return np.full(2, np.inf), np.nan
        if turn + 1 == passes or (np.abs(rest) <= 1 / _UPSAMPLING).all():
            break
        moved = ndimage.shift(spline, shift, order=3, mode="nearest", prefilter=False)
    # The error is sqrt(1 - r^2) of the correlation r at the peak.
    return shift, float(np.sqrt(max(0.0, 1 - float(error) ** 2)))

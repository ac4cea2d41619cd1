"""Shift outlines of one image onto another image, outline by outline.

The orthorectification of Planet and Sentinel-2 differs by up to a few pixels and varies in space. A window around
each outline is cut from both images and high-pass filtered. The shift is the maximum of their cross-correlation with
subpixel upsampling (Guizar-Sicairos et al. 2008, `skimage.registration.phase_cross_correlation`). The cross power
spectrum is not whitened, because whitening amplifies noise in small windows (64 px, noise of a tenth of the signal:
errors of 0.8 px whitened, 0.1 px not).

A shift is accepted if the shifted windows correlate and if quarters of the window give the same shift. Otherwise the
outline stays in place and is flagged.
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
"""Pixels; slower variations come from illumination, haze and season."""
_MIN_VALID = 0.9
_PASSES = 4
_PASSES_OF_QUARTERS = 2
_MIN_SIDE = 8


@dataclass(frozen=True, slots=True)
class AlignmentParameters:
    """Parameters of the alignment; lengths in pixels of the target image.

    Attributes:
        band: band to correlate.
        window: minimum side of the window around an outline; a larger outline has a window of twice its size.
        largest: maximum side of the window.
        max_shift: maximum shift along each axis.
        min_correlation: minimum correlation of the shifted windows.
        tolerance: maximum difference between the shift of a quarter and of the window; three of four must agree.

    Raises:
        SettingsError: for a value outside its range.
    """

    band: str = "nir"
    window: int = 96
    largest: int = 256
    max_shift: int = 8
    min_correlation: float = 0.5
    tolerance: float = 0.5

    def __post_init__(self) -> None:
        if not (2 * _MIN_SIDE <= self.window <= self.largest and self.max_shift >= 1):
            raise SettingsError(
                f"window {self.window} px, largest {self.largest} px, max_shift {self.max_shift} px: expected windows "
                f"of at least {2 * _MIN_SIDE} px and a shift of at least 1 px"
            )
        if not (0 < self.min_correlation <= 1 and self.tolerance > 0):
            raise SettingsError(
                f"min_correlation {self.min_correlation}, tolerance {self.tolerance}: expected values above 0 and a "
                "correlation of at most 1"
            )


@dataclass(frozen=True, slots=True)
class Shift:
    """Offset between two windows.

    Attributes:
        rows: pixels down; NaN without a result.
        cols: pixels to the right.
        correlation: correlation of the shifted, high-pass filtered windows; NaN without a result.
        verdict: `aligned`, or the reason of a rejection.
    """

    rows: float
    cols: float
    correlation: float
    verdict: Verdict

    @property
    def reliable(self) -> bool:
        """Whether the shift is accepted."""
        return self.verdict == "aligned"


_NOTHING = Shift(np.nan, np.nan, np.nan, "no data")


def find_shift(moving: Image, fixed: Image, parameters: AlignmentParameters | None = None) -> Shift:
    """Estimate and check the shift of `moving` onto `fixed`.

    Args:
        moving: float32 (rows, cols), NaN where unknown; `max_shift` pixels on each side are margin.
        fixed: float32, same shape.
        parameters: limits; `window` and `largest` are not used.
    """
    parameters = parameters or AlignmentParameters()
    margin, shape = parameters.max_shift, np.array(moving.shape)
    if (shape - 2 * margin < 2 * _MIN_SIDE).any():
        return _NOTHING
    if min(np.isfinite(image).mean() for image in (moving, fixed)) < _MIN_VALID:
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
    """Shift outlines from the labelled image onto a scene; rejected shifts are not applied.

    Args:
        labels: outlines in any CRS.
        drawn_on: band of the labelled image on any grid; averaged over the pixels of the scene.
        scene: the same band of the scene; NaN where unknown.
        parameters: windows and limits.

    Returns:
        Outlines in the CRS of the scene, with `aligned` (bool), `alignment` (verdict, or `not covered` for an outline
        outside the scene), `shift_x` and `shift_y` in units of the CRS (measured shift, also if rejected; NaN without a
        result), and `correlation`.
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
    """Unshifted outlines with the columns of `align_labels`, for images that are not available."""
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
    """Shift of the window around `bounds`; None outside the grid."""
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
    """Shift (rows, cols) of a window and its correlation; NaN without structure, infinite beyond `furthest`.

    The taper of the window biases an estimate towards 0. The image is therefore shifted by the estimate, and the
    remaining shift is added, until it vanishes.
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

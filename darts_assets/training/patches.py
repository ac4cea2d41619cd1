"""Cut a preprocessed tile and its labels into patches, one at a time (13 bands x 1024 x 1024 pixels: 55 MB)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from darts_assets.bands import band
from darts_assets.errors import RasterError
from darts_assets.model.patch_grid import PatchAxis
from darts_assets.tiles import geobox_of
from darts_assets.training.labels import BACKGROUND, IGNORED, SLUMP
from darts_assets.training.sample_parameters import PatchParameters

HIGH_QUALITY = 2
_INVALID = 0


Labels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
"""Classes, or shares of experts."""


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A patch of a tile.

    Attributes:
        x: model representation, float32 (bands, patch, patch); 0 where a value is missing or the quality is 0.
        y: 0 background, 1 slump, 2 ignored; uint8 (patch, patch). With several experts: the share of them who outlined
            a slump, NaN where ignored; float32.
        row: first row in the tile.
        col: first column in the tile.
        geometry: outline in EPSG:4326.
    """

    x: npt.NDArray[np.float32]
    y: Labels
    row: int
    col: int
    geometry: shapely.Geometry

    @property
    def empty(self) -> bool:
        """Whether the patch contains no slump, by the majority of experts if there are several."""
        return not bool(slumps_of(self.y).any())

    @property
    def ignored(self) -> npt.NDArray[np.bool_]:
        """Pixels without a label, (patch, patch)."""
        return ignored_of(self.y)


def slumps_of(y: Labels) -> npt.NDArray[np.bool_]:
    """Pixels that are slump, by the majority of experts if there are several."""
    slumps: npt.NDArray[np.bool_] = y == SLUMP if y.dtype == np.uint8 else y > 0.5
    return slumps


def ignored_of(y: Labels) -> npt.NDArray[np.bool_]:
    """Pixels without a label."""
    ignored: npt.NDArray[np.bool_] = y == IGNORED if y.dtype == np.uint8 else np.isnan(y)
    return ignored


@dataclass
class PatchCounts:
    """Number of kept and dropped patches of a tile.

    Attributes:
        kept: number of kept patches.
        dropped: number of dropped patches by the first reason of `few visible`, `no slump`, `no data`, `nan`.
    """

    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def cut(
    tile: xr.Dataset,
    labels: gpd.GeoDataFrame,
    footprint: gpd.GeoSeries | None,
    parameters: PatchParameters,
    counts: PatchCounts | None = None,
    experts: Sequence[str] = (),
) -> Iterator[Patch]:
    """Yield the patches of a tile that pass the filters, row by row; each patch is read when it is due.

    The last patches of rows and columns are shifted to end with the tile. A tile smaller than a patch is padded with
    ignored pixels, whose missing values are not counted.

    Args:
        tile: preprocessed tile, lazy or in memory: bands in physical units, and uint8 `quality_data_mask`.
        labels: outlines in any CRS; `label` 0, 1 or 2 (1 without this column). A pixel belongs to the outlines that
            contain its centre; where several overlap, the highest class wins.
        footprint: labelled area in any CRS; pixels outside are ignored. None: the whole tile.
        parameters: bands, sizes and filters.
        counts: updated with each patch.
        experts: names of several experts; labels then have the column `expert`, and `y` is their share. Pixels that one
            of them marked as ignored (2) are ignored.

    Raises:
        RasterError: if the tile lacks a band.
        ValueError: if the tile has no georeference.
    """
    missing = [name for name in (*parameters.bands, "quality_data_mask") if name not in tile]
    if missing:
        raise RasterError(f"the tile has no band {', '.join(missing)}; bands are {', '.join(map(str, tile.data_vars))}")
    grid = geobox_of(tile)
    size, counts = parameters.patch_size, counts if counts is not None else PatchCounts()
    burned = Burner(grid, labels, footprint, experts)
    rows, columns = (PatchAxis(n, 0, size, parameters.overlap).starts for n in grid.shape)
    for row in rows:
        for col in columns:
            window = (slice(row, min(row + size, grid.shape[0])), slice(col, min(col + size, grid.shape[1])))
            part = tile.isel(y=window[0], x=window[1])
            quality = np.asarray(part["quality_data_mask"].values)
            burnt = burned.window(window)
            y = np.full((size, size), burned.ignored, dtype=burnt.dtype)
            inside = (slice(0, quality.shape[0]), slice(0, quality.shape[1]))
            y[inside] = np.where(quality == HIGH_QUALITY, burnt, burned.ignored)
            if reason := _label_filter(y, parameters):
                counts.dropped[reason] += 1
                continue
            x, reason = _inputs(part, quality == _INVALID, inside, parameters)
            if reason:
                counts.dropped[reason] += 1
                continue
            counts.kept += 1
            outline = grid[row : row + size, col : col + size].geographic_extent.geom
            yield Patch(x, y, row, col, outline)


class Burner:
    """Rasterizes the outlines of a tile window by window; see `cut`."""

    def __init__(
        self, grid: GeoBox, labels: gpd.GeoDataFrame, footprint: gpd.GeoSeries | None, experts: Sequence[str] = ()
    ) -> None:
        self._grid, self._experts = grid, tuple(experts)
        self.ignored: int | float = float("nan") if experts else IGNORED
        authors = labels["expert"].to_numpy() if experts else np.full(len(labels), "")
        classes = labels["label"].to_numpy() if "label" in labels else np.full(len(labels), SLUMP)
        # In the order of classes, so that the highest class is drawn last.
        order = np.argsort(classes, kind="stable")
        self._classes, self._authors = classes[order], authors[order]
        self._shapes = labels.geometry.iloc[order].to_crs(str(grid.crs)).to_numpy() if len(labels) else np.array([])
        self._tree = shapely.STRtree(self._shapes)
        self._seen = None if footprint is None else shapely.union_all(footprint.to_crs(str(grid.crs)).to_numpy())

    def window(self, window: tuple[slice, slice]) -> Labels:
        """Classes of the pixels of a window of the grid, or shares of the experts."""
        if not self._experts:
            return self.classes(window)
        total = np.zeros(self._grid[window].shape, dtype=np.float32)
        ignored = np.zeros(total.shape, dtype=bool)
        for expert in self._experts:
            classes = self.classes(window, expert)
            total += classes == SLUMP
            ignored |= classes == IGNORED
        total /= len(self._experts)
        total[ignored] = np.nan
        return total

    def classes(self, window: tuple[slice, slice], expert: str = "") -> npt.NDArray[np.uint8]:
        """Classes by the outlines of one of the experts, or by all outlines."""
        grid = self._grid[window]
        near = np.sort(self._tree.query(grid.extent.geom))
        own = [n for n in near if not self._experts or self._authors[n] == expert]
        shapes = [(self._shapes[n], int(self._classes[n])) for n in own if self._classes[n] != BACKGROUND]
        classes = _burn(shapes, grid, BACKGROUND)
        if self._seen is not None:
            classes[_burn([(self._seen, 1)], grid, 0) == 0] = IGNORED
        return classes


def _burn(shapes: list[tuple[Any, int]], grid: GeoBox, fill: int) -> npt.NDArray[np.uint8]:
    filled = [(shape, value) for shape, value in shapes if not shape.is_empty]
    if not filled:
        return np.full(grid.shape, fill, dtype=np.uint8)
    return rasterize(filled, out_shape=tuple(grid.shape), transform=grid.affine, fill=fill, dtype="uint8")


def _label_filter(y: Labels, parameters: PatchParameters) -> str:
    """Reason to drop a patch because of its labels, or ""."""
    if (~ignored_of(y)).mean() < parameters.min_visible:
        return "few visible"
    if parameters.exclude_nopositive and not slumps_of(y).any():
        return "no slump"
    return ""


def _inputs(
    part: xr.Dataset, invalid: npt.NDArray[np.bool_], inside: tuple[slice, slice], parameters: PatchParameters
) -> tuple[npt.NDArray[np.float32], str]:
    """Bands of a patch in model representation, and the reason to drop it, or ""; stops reading once it is dropped."""
    size = parameters.patch_size
    x = np.zeros((len(parameters.bands), size, size), dtype=np.float32)
    if parameters.exclude_nan and invalid.any():
        return x, "no data" if invalid.all() else "nan"
    for number, name in enumerate(parameters.bands):
        values = np.asarray(part[name].values)
        missing = invalid | np.isnan(values) if values.dtype.kind == "f" else invalid
        if missing.all():
            return x, "no data"
        if parameters.exclude_nan and missing.any():
            return x, "nan"
        x[number][inside] = np.where(missing, 0, band(name).to_model(values))
    return x, ""

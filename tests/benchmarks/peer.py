"""What the peer does for the results of three of our stages, rebuilt from the libraries that it calls, on one core.

Everything is in memory when its clock starts and stays there, but for the files of `products`. The peer traces outlines
while it exports, we do in `postprocess`: compare the sum of the two.
`pip install '.[bench]'`; `python peer.py FOLDER SIZE` prints a line of JSON for each stage.
"""

import dataclasses
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import odc.geo.xr  # noqa: F401 - gives datasets their `odc` accessor
import pandas as pd
import rasterio
import shapely.geometry
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.features import shapes, sieve
from skimage.measure import label, regionprops
from skimage.morphology import binary_erosion, disk, remove_small_objects
from xrspatial import aspect, curvature, hillshade, slope
from xrspatial.convolution import calc_cellsize, circle_kernel, convolution_2d

from darts_assets.detection import PostprocessParameters
from darts_assets.features.conventions import Sun
from darts_assets.tiles import geobox_of
from tests.benchmarks.measuring import cost_of
from tests.benchmarks.stage_site import TPI_RADIUS, Site

DEFAULTS = PostprocessParameters()
SMALLEST = 32


def preprocess(optical: xr.Dataset, dem: xr.Dataset, tcvis: xr.Dataset, sun: Sun) -> xr.Dataset:
    """Indices, trends on the scene's grid, and the terrain features on a grid that is larger by the TPI's radius."""
    grid = geobox_of(optical)
    tile = optical.copy()
    red, nir = tile.red.clip(0, 1), tile.nir.clip(0, 1)
    tile["ndvi"] = (nir - red) / (nir + red)
    trends = tcvis.odc.reproject(grid, resampling="cubic")
    for name in trends.data_vars:
        tile[name] = (("y", "x"), trends[name].values)
    terrain = dem.odc.reproject(grid.buffered(TPI_RADIUS), resampling="cubic")
    terrain = terrain.assign(terrain_features(terrain.dem, sun))
    terrain = terrain.odc.crop(grid.extent)
    for name in terrain.data_vars:
        tile[name] = (("y", "x"), terrain[name].values)
    return tile


def terrain_features(dem: xr.DataArray, sun: Sun) -> dict[str, xr.DataArray]:
    cells = calc_cellsize(dem)
    kernel = circle_kernel(*cells, TPI_RADIUS).astype("float32")
    return {
        "relative_elevation": dem - convolution_2d(dem, kernel) / kernel.sum(),
        "slope": slope(dem),
        "aspect": aspect(dem),
        "hillshade": hillshade(dem, azimuth=sun.azimuth, angle_altitude=sun.elevation),
        "curvature": curvature(dem),
    }


def postprocess(probabilities: xr.DataArray, quality: xr.DataArray) -> xr.Dataset:
    """Valid area, threshold, objects at its edge and small ones removed, percent."""
    size = DEFAULTS.mask_erosion_size
    extent = (quality >= DEFAULTS.lowest_quality).astype("uint8")
    extent.values = binary_erosion(extent.values, disk(size)).astype("uint8")
    for edge in (np.s_[:size], np.s_[-size:], np.s_[:, :size], np.s_[:, -size:]):
        extent.values[edge] = 0
    found = (probabilities.fillna(0) > DEFAULTS.threshold).astype("uint8")
    labels = found.copy(data=label(found, connectivity=2))
    cut = np.unique(xr.where(extent == 0, labels, 0))
    found = ~labels.isin(cut) & (found == 1)
    found.values = remove_small_objects(found.values, min_size=SMALLEST)
    percent = xr.where(extent == 1, (probabilities * 100).fillna(255).astype("uint8"), 255)
    return xr.Dataset({"extent": extent, "binarized": found.astype("uint8"), "probabilities": percent.astype("uint8")})


def products(folder: Path, tile: xr.Dataset, detections: xr.Dataset) -> None:
    """Two rasters, two tables in two formats each, and the picture."""
    grid = geobox_of(tile)
    for name in ("probabilities", "binarized"):
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", compress="LZW", dtype="uint8", count=1, crs=str(grid.crs),
            transform=grid.transform, height=grid.shape[0], width=grid.shape[1],
        ) as file:  # fmt: skip
            file.write(detections[name].values, 1)
    for name, layer in (("prediction_segments", "binarized"), ("prediction_extent", "extent")):
        table = outlines(detections[layer].values, detections["probabilities"].values, grid)
        table.to_file(folder / f"{name}.gpkg", layer=name)
        table.to_parquet(folder / f"{name}.parquet")
    picture(xr.merge([tile, detections], compat="override")).savefig(folder / "thumbnail.jpg")


def outlines(layer: np.ndarray, percent: np.ndarray, grid: GeoBox) -> gpd.GeoDataFrame:
    """A polygon for each connected area with statistics of the probabilities in it."""
    labels = label(sieve(layer, SMALLEST))

    def median(region: np.ndarray, intensities: np.ndarray) -> float:
        return float(np.median(intensities[region]))

    regions = regionprops(labels, intensity_image=percent, extra_properties=[median])
    facts = pd.DataFrame(
        [(r.label, r.min_intensity, r.max_intensity, r.mean_intensity, r.median, r.num_pixels) for r in regions],
        columns=["label", "min", "max", "mean", "median", "npixel"],
    )
    traced = [
        (shapely.geometry.shape(shape), int(value))
        for shape, value in shapes(labels.astype("int32"), transform=grid.transform)
        if value
    ]
    table = gpd.GeoDataFrame(traced, columns=["geometry", "label"], geometry="geometry", crs=str(grid.crs))
    return table.merge(facts, on="label")


def picture(tile: xr.Dataset) -> Any:
    """A figure with true colours and the outlines of probabilities and valid area."""
    names = ["red", "green", "blue", "probabilities", "extent"]
    grid = geobox_of(tile)
    factor = max(grid.shape) // 512
    small = tile[names].odc.reproject(grid.zoom_out(factor)) if factor > 1 else tile[names]
    figure, axes = plt.subplots(figsize=(10, 10))
    small.odc.to_rgba(bands=names[:3], vmin=0, vmax=0.2).plot.imshow(ax=axes)
    small.probabilities.plot.contour(ax=axes, levels=[50])
    small.extent.plot.contour(ax=axes, levels=[0.5], colors="r", alpha=0.5)
    return figure


def main(folder: str, size: str) -> None:
    site = Site(Path(folder), int(size))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    mpl.use("agg")
    warnings.simplefilter("ignore")
    optical = site.optical().drop_vars("s2_scl").load()
    dem, tcvis = (layer.load() for layer in site.layers(optical).values())
    sun = Sun.of(optical.attrs)
    terrain_features(dem.dem[:64, :64].copy(), sun)  # numba compiles once in a process

    made: dict[str, xr.Dataset] = {}

    def report(stage: str, work: Callable[[], xr.Dataset | None]) -> None:
        def keep() -> None:
            made[stage] = work()

        print(json.dumps({"stage": stage, **dataclasses.asdict(cost_of(keep))}), flush=True)

    report("preprocess", lambda: preprocess(optical, dem, tcvis, sun))
    probabilities, quality = site.read("segmentation").probabilities.load(), optical.quality_data_mask
    report("postprocess", lambda: postprocess(probabilities, quality))
    report("products", lambda: products(site.scratch(), made["preprocess"], made["postprocess"]))


if __name__ == "__main__":
    main(*sys.argv[1:])

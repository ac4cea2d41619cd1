from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.detection import PostprocessParameters
from darts_assets.detection.postprocess import postprocess
from darts_assets.detection.vectorize import extent_polygons, segments
from darts_assets.tiles import on_grid


def grid(height, width):
    return GeoBox((height, width), Affine(10, 0, 450000, 0, -10, 7720000), "EPSG:32608")


def detections_of(binarized, extent=None, probabilities=None, clear=None):
    """A postprocessed tile with the given masks."""
    extent = np.ones_like(binarized) if extent is None else extent
    if probabilities is None:
        probabilities = np.where(binarized, np.float32(0.75), np.float32(0.25))
    clear = extent if clear is None else clear
    bands = {"extent": extent, "clear": clear, "probabilities": probabilities, "binarized_segmentation": binarized}
    return on_grid(bands, grid(*binarized.shape))


def opened(shared: Path, name: str) -> xr.Dataset:
    path = shared / "reference" / f"{name}.zarr.zip"
    # Without dask: the backend's own lazy arrays, as steps get them.
    return xr.open_zarr(zarr.storage.ZipStore(path, mode="r"), consolidated=False, chunks=None)


@pytest.fixture(scope="session")
def peer(shared):
    """The peer's postprocessing: `probabilities_in`, `probabilities_out`, `binarized`, `extent`."""
    return opened(shared, "postprocessing")


@pytest.fixture(scope="session")
def quality(shared):
    return opened(shared, "optical")["quality_data_mask"]


@pytest.fixture(scope="session")
def probabilities(peer):
    """A lazy tile as segmentation leaves it, with one model's own probabilities."""
    tile = peer[["probabilities_in"]].rename(probabilities_in="probabilities")
    return tile.assign({"probabilities-tcvis": tile["probabilities"] * np.float32(0.9)})


@pytest.fixture(scope="session")
def detections(probabilities, quality):
    return postprocess(probabilities, quality, PostprocessParameters(min_object_size=32))


@pytest.fixture(scope="session")
def vectors(detections):
    return {
        "segments": segments(detections),
        "segments-tcvis": segments(detections, model="tcvis"),
        "extent": extent_polygons(detections),
    }


@pytest.fixture(scope="session")
def features(shared):
    """The lazy preprocessed tile of the reference scene."""
    optical = opened(shared, "optical").drop_vars("valid_data_mask")
    layers = opened(shared, "features").drop_vars("hillshade_2026").rename(hillshade_2025="hillshade")
    return optical.assign(layers.data_vars)

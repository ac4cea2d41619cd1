"""A Sentinel-2 sample: the scene under a Planet image, with labels moved to where the scene has the ground."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from darts_assets.bands import FEATURES
from darts_assets.demo import World, build_world
from darts_assets.demo.in_memory_chain import scene_features
from darts_assets.errors import RasterError, TrainingError
from darts_assets.tiles import geobox_of, on_grid
from darts_assets.training.alignment import AlignmentParameters
from darts_assets.training.labels import LabelArchive
from darts_assets.training.sample_parameters import PatchParameters
from darts_assets.training.set_builder import SetBuilder

IMAGE, SCENE = "20200814_044132_1026", "S2A_MSIL2A_20200814T204021_N0500_R014_T08WMB_20230101T000000"
X, Y = 2.4, -1.7
"""Pixels by which the Planet image lies elsewhere."""
PARAMETERS = PatchParameters(patch_size=96, overlap=0, exclude_nan=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("demo") / "world", seed=3, scenes=1, size=400, slumps=8)


@pytest.fixture(scope="module")
def tile(world) -> xr.Dataset:
    return scene_features(world, world.items[0], "darts-2025")


@pytest.fixture(scope="module")
def truth(world, tile) -> gpd.GeoDataFrame:
    """What lies well inside of what the Planet image shows."""
    table = gpd.read_file(world.truth)
    return table[table.within(shown(tile).buffer(-60))].reset_index(drop=True)


def shown(tile: xr.Dataset) -> shapely.Geometry:
    """All of the scene but 500 m at each side."""
    return shapely.box(*geobox_of(tile).extent.geom.bounds).buffer(-500, join_style="mitre")


@pytest.fixture
def image(tile) -> xr.DataArray:
    grid = geobox_of(tile)
    return on_grid(
        {"nir": tile["nir"].values * 1.1}, GeoBox(grid.shape, grid.affine @ Affine.translation(X, Y), grid.crs)
    )["nir"]


@pytest.fixture
def archive(tile, truth) -> LabelArchive:
    """The truth as it is drawn on the Planet image."""
    drawn = truth.set_geometry(truth.translate(10 * X, -10 * Y)).assign(
        image_id=IMAGE, label=1, iteration="iteration002", region="", label_id=[f"l{n}" for n in range(len(truth))]
    )
    footprint = gpd.GeoDataFrame(
        {"image_id": [IMAGE], "datasource": "s", "iteration": "iteration002"}, geometry=[shown(tile)], crs=truth.crs
    )
    columns = ["image_id", "label", "iteration", "region", "label_id", "geometry"]
    return LabelArchive(drawn[columns].to_crs(4326), footprint.to_crs(4326), ())


def builder_of(archive, store, **more) -> SetBuilder:
    return SetBuilder(archive, pd.Series({IMAGE: "Peel"}), store, PARAMETERS, "sentinel2", **more)


def rows_of(store) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, np.ndarray]:
    folder = store.current.path
    y = zarr.open_group(folder / "data.zarr", mode="r")["y"][:]
    return gpd.read_parquet(folder / "metadata.parquet"), gpd.read_parquet(folder / "labels.parquet"), y


def test_labels_are_moved_and_offsets_are_in_the_metadata(tile, image, archive, truth, store) -> None:
    builder = builder_of(archive, store)
    record = builder.add_matched(IMAGE, SCENE, tile, image, facts={"score": 0.41})
    assert record.patches == 16
    assert builder.add_matched(IMAGE, SCENE, tile, image, facts={"score": 0.41}) == record, "nothing is done again"
    store.assemble()
    table, labels, y = rows_of(store)
    assert set(table["scene_id"]) == {SCENE}
    assert set(table["region"]) == {"Peel"}
    assert set(table["score"]) == {0.41}
    assert table["labels_aligned"].unique() == table["labels"].unique() == len(truth)
    assert table["shift_x"].unique() == pytest.approx(-10 * X, abs=1)
    assert table["shift_y"].unique() == pytest.approx(10 * Y, abs=1)
    assert labels["aligned"].all()
    # Pixel by pixel the truth, but for those whose centre is a metre from its outline.
    grid = geobox_of(tile)
    expected = rasterize(truth.geometry, out_shape=grid.shape, transform=grid.affine)[50:-50, 50:-50]
    again = np.full((300, 300), 9, dtype=np.uint8)
    for number, (row, col) in enumerate(zip(table["row"], table["col"], strict=True)):
        again[row : row + 96, col : col + 96] = y[number]
    inside = again[2:-2, 2:-2]
    assert (inside != expected[2:-2, 2:-2]).sum() <= 0.03 * expected.sum()
    assert (expected == 1).sum() > 50
    assert {tuple(sorted(np.unique(again)))} <= {(0, 1), (0, 1, 2)}


def test_labels_that_cannot_be_aligned_are_used_as_they_are_and_flagged(tile, archive, store) -> None:
    noise = tile["nir"].copy(data=np.random.default_rng(0).uniform(0, 0.5, tile["nir"].shape).astype(np.float32))
    for drawn_on, why in ((noise, {"no correlation", "too far", "windows disagree"}), (None, {"no image"})):
        builder_of(archive, store).add_matched(IMAGE, SCENE, tile, drawn_on, inputs=str(why))
        store.assemble()
        table, labels, y = rows_of(store)
        assert set(labels["alignment"]) <= why
        assert not labels["aligned"].any()
        assert set(table["labels_aligned"]) == {0}
        assert table["shift_x"].isna().all()
        assert labels.geometry.geom_equals_exact(archive.labels.geometry, 1e-8).all()
        assert (y == 1).any(), "they are used all the same"


def test_alignment_can_be_switched_off(tile, image, archive, store) -> None:
    moved = builder_of(archive, store).add_matched(IMAGE, SCENE, tile, image)
    assert builder_of(archive, store, alignment=None).add_matched(IMAGE, SCENE, tile, image) != moved
    store.assemble()
    assert set(rows_of(store)[1]["alignment"]) == {"not wanted"}


def test_what_is_missing_is_named(tile, image, archive, store) -> None:
    builder = builder_of(archive, store, alignment=AlignmentParameters(band="swir16"))
    with pytest.raises(RasterError, match="no band swir16, which the alignment needs"):
        builder.add_matched(IMAGE, SCENE, tile, image)
    with pytest.raises(TrainingError, match="no footprint of image 'other'"):
        builder_of(archive, store).add_matched("other", SCENE, tile, image)


def test_the_set_is_what_a_model_learns_from(tile, image, archive, store) -> None:
    from darts_assets.training.fit.training_set import TrainingSet

    builder_of(archive, store).add_matched(IMAGE, SCENE, tile, image)
    summary = store.assemble()
    data = TrainingSet.open(store.current)
    assert (len(data), data.bands, data.patch_size) == (summary.patches, FEATURES, 96)
    assert (data.terrain, data.normalization) == ("darts-2025", "valid-range-1")
    inputs, labels = data.patch(4)
    assert inputs.shape == (13, 96, 96)
    assert labels.shape == (96, 96)

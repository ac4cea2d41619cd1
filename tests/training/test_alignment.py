"""Shifts that were planted in demo scenes are found again; noise is not believed."""

import geopandas as gpd
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.demo import World, build_world
from darts_assets.errors import SettingsError
from darts_assets.sources import calibrate, open_raw, parse_item, read_item
from darts_assets.tiles import geobox_of, on_grid
from darts_assets.training.alignment import AlignmentParameters, align_labels, find_shift, unaligned


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("demo") / "world", seed=3, scenes=1, size=400, slumps=8)


@pytest.fixture(scope="module")
def scene(world) -> xr.DataArray:
    """Near infrared of the clear scene."""
    return calibrate(open_raw(parse_item(read_item(str(world.items[0]))), ("nir", "s2_scl")))["nir"].load()


@pytest.fixture(scope="module")
def truth(world) -> gpd.GeoDataFrame:
    table = gpd.read_file(world.truth)
    assert len(table) >= 6
    return table


def planted(scene: xr.DataArray, x: float, y: float, seed: int = 0) -> xr.DataArray:
    """The scene as another sensor has it: brighter, noisy, and said to lie by some pixels elsewhere."""
    grid = geobox_of(scene.to_dataset(name="nir"))
    elsewhere = GeoBox(grid.shape, grid.affine @ Affine.translation(x, y), grid.crs)
    noisy = scene.values * 1.2 + 0.01 + np.random.default_rng(seed).normal(0, 0.003, grid.shape)
    return on_grid({"nir": noisy.astype(np.float32)}, elsewhere)["nir"]


@pytest.mark.parametrize(("x", "y"), [(0.3, -0.3), (0.5, 0.8), (-1.25, 2.6), (5.0, -5.0), (-3.7, -0.45)])
def test_planted_shifts_are_undone_to_a_tenth_of_a_pixel(scene, truth, x, y) -> None:
    drawn = truth.set_geometry(truth.translate(10 * x, -10 * y))
    found = align_labels(drawn, planted(scene, x, y), scene)
    assert found["aligned"].all()
    assert found["shift_x"].to_numpy() == pytest.approx(-10 * x, abs=1)  # metres: a tenth of a pixel
    assert found["shift_y"].to_numpy() == pytest.approx(10 * y, abs=1)
    assert found.geometry.hausdorff_distance(truth.geometry).max() < 1.5  # both axes
    assert found["correlation"].min() > 0.9


def test_noise_is_rejected_and_leaves_outlines_where_they_are(scene, truth) -> None:
    rng = np.random.default_rng(4)
    noise = scene.copy(data=rng.uniform(0, 0.4, scene.shape).astype(np.float32))
    found = align_labels(truth, noise, scene)
    assert not found["aligned"].any()
    assert set(found["alignment"]) <= {"no correlation", "too far", "windows disagree"}
    assert found.geometry.geom_equals(truth.geometry).all()


def test_ground_that_is_another_is_rejected(world, scene, truth, tmp_path) -> None:
    """Structured like the scene, but not the same: what noise that is white does not test."""
    other = build_world(tmp_path / "other", seed=4, scenes=1, size=400, slumps=8)
    ground = calibrate(open_raw(parse_item(read_item(str(other.items[0]))), ("nir", "s2_scl")))["nir"]
    found = align_labels(truth, scene.copy(data=ground.values), scene)
    assert not found["aligned"].any()


def test_windows_of_noise_are_rejected_whatever_the_seed() -> None:
    rng = np.random.default_rng(0)
    verdicts = {find_shift(*rng.normal(size=(2, 112, 112)).astype(np.float32)).verdict for _ in range(15)}
    assert "aligned" not in verdicts


def test_what_cannot_be_judged_is_flagged(scene, truth) -> None:
    holed = scene.copy()
    left, bottom, right, top = truth.geometry.iloc[0].bounds
    near = (holed.x > left - 500) & (holed.x < right + 500) & (holed.y > bottom - 500) & (holed.y < top + 500)
    far = truth.set_geometry(truth.translate(50_000, 0))
    assert align_labels(truth.iloc[:1], scene, holed.where(~near))["alignment"].tolist() == ["no data"]
    assert align_labels(truth.iloc[:1], scene, scene * 0)["aligned"].tolist() == [False]
    found = align_labels(far, scene, scene)
    assert set(found["alignment"]) == {"not covered"}
    assert found["shift_x"].isna().all()
    beyond = align_labels(truth, planted(scene, 14, 0), scene)
    assert not beyond["aligned"].any()
    assert set(unaligned(truth, "no image")["alignment"]) == {"no image"}
    assert align_labels(truth.iloc[:0], scene, scene).empty


def test_a_finer_image_is_averaged_to_the_scene(scene, truth) -> None:
    """Pixels of 3.33 m: each of the scene's is nine of them."""
    grid = geobox_of(scene.to_dataset(name="nir"))
    fine = np.kron(scene.values, np.ones((3, 3), dtype=np.float32))
    shifted = Affine.translation(0.7, -1.3)
    elsewhere = GeoBox(fine.shape, grid.affine @ shifted @ Affine.scale(1 / 3), grid.crs)
    drawn = truth.set_geometry(truth.translate(7, 13))
    lazy = on_grid({"nir": fine}, elsewhere).chunk({"y": 512})["nir"]  # as the tile store gives it
    found = align_labels(drawn, lazy, scene.chunk({"y": 512}))
    assert found["aligned"].all()
    assert found["shift_x"].to_numpy() == pytest.approx(-7, abs=1)
    assert found["shift_y"].to_numpy() == pytest.approx(-13, abs=1)


def test_invalid_parameters() -> None:
    with pytest.raises(SettingsError, match="window 8 px, largest 256 px"):
        AlignmentParameters(window=8)
    with pytest.raises(SettingsError, match="min_correlation 0"):
        AlignmentParameters(min_correlation=0)

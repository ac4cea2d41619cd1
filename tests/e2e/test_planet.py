"""The chain of Planet images: the real scene that we have, and generated ones in every layout."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from darts_assets.orchestration.core.partitions import PLANET, SENTINEL2, STEPS
from darts_assets.orchestration.scene_chain import build_chain
from tests.e2e.harness import Site, metadata_of, reason
from tests.sample_data.auxiliary_layers import TRENDS, write_layers
from tests.sample_data.planet_deliveries import (
    EIGHT,
    FOUR,
    NUMBERS,
    ORTHOTILE,
    SCENE,
    STRIPES,
    move_to_the_arctic,
    stripes,
    write_image,
)

REAL = "data/planet_stactools/tests/data-files/disaster/hurricane-harvey/hurricane-harvey-0831/20170831_172754_101c"
PATCHES = {"patch_size": 128, "overlap": 32}


@pytest.fixture
def planet(new_site: Callable[..., Site]) -> Callable[..., Site]:
    def make(name: str = "site", **settings: Any) -> Site:
        return replace(new_site(name, **settings), family=PLANET)

    return make


def with_layers(site: Site, image: str, folder: Path) -> Site:
    """With elevations at 2 m and trends under an image."""
    geobox = site.resource("raw").grid(PLANET, site.resource("scenes").scene(PLANET, image))
    return site.using(**write_layers(folder, geobox, resolution=2), auxiliary=("arcticdem", "tcvis"))


def test_the_real_scene_runs_where_it_is_and_on_the_plateau(
    planet: Callable[..., Site], shared: Path, tmp_path: Path
) -> None:
    real = shared / REAL
    site = planet(auxiliary=())
    (image,) = site.register(real)
    assert image == "20170831_172754_101c"
    result = site.run(image, segmentation=PATCHES)
    assert result.success, reason(result)
    tile = site.load("preprocessed_tile", image)
    with (
        rasterio.open(real / f"{image}_3B_AnalyticMS.tif") as file,
        rasterio.open(real / f"{image}_3B_AnalyticMS_DN_udm.tif") as mask,
    ):
        numbers, bits = file.read(), mask.read(1)
    # Coefficients of the metadata.xml.
    coefficients = {
        "blue": 1.81512636125e-05,
        "green": 1.92266681265e-05,
        "red": 2.14155262585e-05,
        "nir": 3.22221688359e-05,
    }
    valid = (numbers > 0).all(axis=0) & ((bits | 2) == 2)
    assert valid.sum() == 40635 + 1101
    for number, (band, coefficient) in enumerate(coefficients.items()):
        values = tile[band].values
        np.testing.assert_allclose(values[valid], numbers[number][valid] * coefficient, atol=6e-5)
        assert bool(np.isnan(values[~valid]).all())
    quality = tile["quality_data_mask"].values
    np.testing.assert_array_equal(quality, np.where(~valid, 0, np.where(bits & 2, 1, 2)))
    assert metadata_of(result, "raw_scene")["sun_elevation"] == pytest.approx(65.12005)

    moved = planet("plateau")
    moved.register(move_to_the_arctic(real, tmp_path / "arctic"))
    moved = with_layers(moved, image, tmp_path / "layers")
    result = moved.run(image, segmentation=PATCHES)
    assert result.success, reason(result)
    assert all(image in moved.materialized(step) for step in STEPS)
    tile = moved.load("preprocessed_tile", image)
    for band in FOUR:
        np.testing.assert_array_equal(tile[band].values, site.load("preprocessed_tile", image)[band].values)
    assert bool(np.isfinite(tile["relative_elevation"]).all())
    assert float(np.ptp(tile["dem"].values)) > 50
    assert tile.attrs["hillshade_azimuth"] == 145, "the sun of the scene"
    assert {band: set(np.unique(tile[band])) for band in TRENDS} == {band: {value} for band, value in TRENDS.items()}
    keys = moved.chunks("arcticdem")
    assert keys
    assert all(key.startswith("2m-") for key in keys)
    folder = Path(metadata_of(result, "products")["path"])
    assert len(gpd.read_file(folder / "prediction_extent.gpkg")) > 0


@pytest.mark.parametrize(
    ("image", "product", "bands"), [(SCENE, "SR", FOUR), (ORTHOTILE, "SR_clip", FOUR), (SCENE, "SR_clip", EIGHT)]
)
def test_generated_images_run_in_both_layouts(
    planet: Callable[..., Site], tmp_path: Path, image: str, product: Any, bands: tuple[str, ...]
) -> None:
    site = planet()
    side = 128
    site.register(write_image(tmp_path / "inbox", image, product=product, bands=bands, side=side))
    site = with_layers(site, image, tmp_path / "layers")
    result = site.run(image, segmentation=PATCHES, polygons={"mask_erosion_size": 2})
    assert result.success, reason(result)
    assert all(image in site.materialized(step) for step in STEPS)
    tile = site.load("preprocessed_tile", image)
    number = stripes(side)
    expected = dict(zip(STRIPES, (2, 1, 1, 1, 1, 1, 0, 2), strict=True))
    for stripe, name in enumerate(STRIPES):
        quality = tile["quality_data_mask"].values[1:, number == stripe]
        assert set(np.unique(quality)) == {expected[name]}, name
    first = {band: tile[band].values[1, 0] for band in FOUR}
    assert first == pytest.approx({band: (NUMBERS[band] + 1) / 10_000 for band in FOUR}, abs=6e-5)
    # 100 m are 34 cells of 3 m: the elevation above the mean of a disk that wide.
    assert bool(np.isfinite(tile["relative_elevation"]).all())
    assert tile.odc.geobox.resolution.x == 3
    extent = site.load("segmentation", image)["probabilities"]
    assert extent.shape == (side, side)
    detections = site.load("polygons", image)["extent"]
    seen = detections.area.sum() / 9
    assert 0.5 * side**2 < seen < 7 / 8 * side**2, "all but no data and its rim"
    products = Path(metadata_of(result, "products")["path"])
    said = json.loads(next(products.glob("*.json")).read_text())
    assert (said["source"], said["datetime"][:10]) == ("planet", "2021-05-20" if image == ORTHOTILE else "2023-08-17")


def test_the_table_of_classes_is_config_of_the_chain(planet: Callable[..., Site], tmp_path: Path) -> None:
    site = planet(auxiliary=())
    site.register(write_image(tmp_path, SCENE))
    assert site.run(SCENE, "raw_scene", "auxiliary").success
    result = site.run(SCENE, "preprocessed_tile", preprocessed_tile={"quality": {"2": 2}})
    assert result.success, reason(result)
    quality = site.load("preprocessed_tile", SCENE)["quality_data_mask"].values
    assert set(np.unique(quality[1:, stripes(64) == STRIPES.index("snow")])) == {2}
    wrong = site.run(SCENE, "preprocessed_tile", preprocessed_tile={"quality": {"11": 1}})
    assert "expected classes of 0, 1, 2, 3, 4, 5, 6, 8" in reason(wrong)


def test_without_sun_angles_the_default_sun_shines_and_a_warning_says_so(
    planet: Callable[..., Site], tmp_path: Path
) -> None:
    site = planet()
    site.register(write_image(tmp_path / "inbox", SCENE, sun=False))
    site = with_layers(site, SCENE, tmp_path / "layers")
    assert site.run(SCENE, "raw_scene", "auxiliary").success
    result = site.run(SCENE, "preprocessed_tile")
    assert result.success, reason(result)
    tile = site.load("preprocessed_tile", SCENE)
    assert (tile.attrs["hillshade_azimuth"], tile.attrs["hillshade_elevation"]) == (225, 25)
    warnings = [log.user_message for log in site.instance.all_logs(result.run_id) if log.level == logging.WARNING]
    assert any("no sun_azimuth; hillshade uses the default of 225 degrees" in text for text in warnings)
    assert any("no sun_elevation; hillshade uses the default of 25 degrees" in text for text in warnings)


def test_a_file_that_is_damaged_later_fails_its_image_alone(planet: Callable[..., Site], tmp_path: Path) -> None:
    site = planet(auxiliary=())
    damaged = write_image(tmp_path, SCENE)
    write_image(tmp_path, ORTHOTILE)
    assert set(site.register(tmp_path)) == {SCENE, ORTHOTILE}
    file = next(damaged.glob("*udm2*"))
    file.write_bytes(file.read_bytes()[:-50])
    failed = site.run(SCENE)
    assert "udm2.tif is truncated: it has" in reason(failed)
    assert site.materialized("raw_scene") == set()
    assert site.run(ORTHOTILE).success
    assert site.materialized("products") == {ORTHOTILE}


def test_both_chains_come_from_the_same_factory() -> None:
    chains = {family.name: build_chain(family) for family in (SENTINEL2, PLANET)}
    for family, assets in chains.items():
        assert [asset.key.path for asset in assets] == [[family, step] for step in STEPS]
    for ours, theirs in zip(*chains.values(), strict=True):
        assert ours.op.compute_fn.decorated_fn.__code__ is theirs.op.compute_fn.decorated_fn.__code__

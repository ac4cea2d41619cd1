"""Planet images of an archive, in its layout and anywhere."""

import geopandas as gpd
import pytest
import shapely

from darts_assets.errors import SettingsError, TrainingError
from darts_assets.sources import S3Options
from darts_assets.sources.planet.delivery_catalog import item_of
from darts_assets.training.labelled_images import find_images
from tests.sample_data import planet_deliveries as planet


@pytest.fixture
def footprints() -> gpd.GeoDataFrame:
    rows = [
        (planet.SCENE, "iteration001"),
        (planet.EARLIER, "iteration001+iteration002"),
        (planet.ORTHOTILE, "iteration002"),
    ]
    shapes = [shapely.box(0, 70, 1, 71)] * 3
    return gpd.GeoDataFrame(rows, columns=["image_id", "iteration"], geometry=shapes, crs="EPSG:4326")


def test_the_layout_of_archives(tmp_path, footprints) -> None:
    planet.write_image(tmp_path / "TrainingLabel_iteration001" / "Banks_Island_01", planet.SCENE)
    planet.write_image(tmp_path / "iteration002", planet.EARLIER)
    planet.write_image(tmp_path / "elsewhere" / "deep" / "down", planet.EARLIER)
    planet.write_image(tmp_path / "iteration001", planet.ORTHOTILE)  # which is of iteration 2
    found = find_images([str(tmp_path)], footprints, "archive", S3Options())
    folders = {image: delivery.folder.removeprefix(f"{tmp_path}/") for image, delivery in found.deliveries.items()}
    assert folders == {
        planet.SCENE: f"TrainingLabel_iteration001/Banks_Island_01/{planet.SCENE}",
        planet.EARLIER: f"iteration002/{planet.EARLIER}",
    }
    assert found.missing == [planet.ORTHOTILE]
    assert found.problems == []
    item = item_of(found.deliveries[planet.SCENE], S3Options())
    assert item is not None
    assert item["id"] == planet.SCENE


def test_anywhere_below_a_folder(tmp_path, footprints) -> None:
    planet.write_image(tmp_path / "orders" / "2023" / "more", planet.SCENE)
    planet.write_image(tmp_path / "a", planet.ORTHOTILE)
    for place in ("b", "c"):
        planet.write_image(tmp_path / place, planet.EARLIER)
    planet.write_image(tmp_path / "a", "20190101_101010_1111")  # which nobody labelled
    found = find_images([str(tmp_path)], footprints, "anywhere", S3Options())
    assert set(found.deliveries) == {planet.SCENE, planet.ORTHOTILE}
    assert found.missing == [planet.EARLIER]
    (problem,) = found.problems
    assert f"{planet.EARLIER} is in 2 folders" in problem


def test_nothing_there(tmp_path, footprints) -> None:
    planet.write_image(tmp_path / "orders", planet.SCENE)
    with pytest.raises(TrainingError, match=r"1 Planet images, but none of the .* is in the folder of its iteration"):
        find_images([str(tmp_path / "orders")], footprints, "archive", S3Options())
    with pytest.raises(SettingsError):
        find_images([str(tmp_path / "nowhere")], footprints, "anywhere", S3Options())

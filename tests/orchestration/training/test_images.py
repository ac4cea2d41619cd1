"""Labelled Planet images, found by the archive's layout or anywhere: from deliveries to a set, as Dagster runs it."""

import json
import tomllib
import uuid
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import numpy as np
import pytest
import shapely
import zarr

from darts_assets.orchestration.core.partitions import PLANET
from darts_assets.orchestration.training.common import DATASET, IMAGES, PLANET_SAMPLES
from darts_assets.settings import Settings
from darts_assets.training.labelled_images import flavour_of
from tests.e2e.asset_runs import failure, run, run_steps, said, warnings
from tests.sample_data import planet_deliveries as planet
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

pytestmark = pytest.mark.slow

SIDE = 64
LABELLED = (planet.SCENE, planet.ORTHOTILE, planet.EARLIER)
LOST = "20190101_101010_1111"
BANDS = ["blue", "green", "red", "nir"]
PATCHES = {"bands": BANDS, "patch_size": 32, "overlap": 0, "exclude_nan": False}
X, Y = planet.WHERE
SLUMP = shapely.box(X + 30, Y - 120, X + 90, Y - 60)
"""60 by 60 m: pixels 10 to 30 from the left, 20 to 40 from the top."""


class Workshop:
    """An archive with a slump on each of four images, of which one is nowhere; a store, and an instance."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = Settings(store=str(folder / "store"), auxiliary=(), **settings)
        self.instance = dg.DagsterInstance.ephemeral()
        self.labels = folder / "labels"
        home = self.labels / "TrainingLabel_iteration001"
        home.mkdir(parents=True)
        images = [*LABELLED, LOST]
        table = gpd.GeoDataFrame({"image_id": images, "label": 1}, geometry=[SLUMP] * 4, crs="EPSG:32608")
        table.to_file(home / "TrainingLabel.gpkg")
        seen = shapely.box(X, Y - 3 * SIDE, X + 3 * SIDE, Y)
        table.assign(datasource="Planet").set_geometry([seen] * 4, crs="EPSG:32608").to_file(
            home / "ImageFootprints.gpkg"
        )

    def said(self, key: dg.AssetKey, partition: str | None = None, **config: Any) -> dict[str, Any]:
        return said(self.settings, self.instance, key, partition, **config)

    def find(self, **config: Any) -> dict[str, Any]:
        return self.said(IMAGES, labels=str(self.labels), **config)

    def registered(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions(str(PLANET.partitions.name)))

    def preprocess(self, image: str) -> None:
        steps = [PLANET.key(step) for step in ("raw_scene", "auxiliary", "preprocessed_tile")]
        assert run_steps(self.settings, self.instance, steps, image).success

    def config(self, dataset: str = "default") -> dict[str, Any]:
        (path,) = (self.folder / "store" / "training" / dataset / "set").glob("*/config.toml")
        return tomllib.loads(path.read_text())


def test_images_found_anywhere_become_a_set(tmp_path: Path) -> None:
    orders = tmp_path / "orders"
    planet.write_image(orders / "2023" / "summer" / "more", planet.SCENE)
    planet.write_image(orders / "PSOrthoTile", planet.ORTHOTILE, brighter=100)
    planet.write_image(orders / "all in one", planet.EARLIER, flat=True)
    planet.write_image(orders, "20200202_101010_1111")  # which nobody labelled
    workshop = Workshop(tmp_path, planet=(str(orders),))
    ids = tmp_path / "images.json"
    found = workshop.find(layout="anywhere", write_ids=str(ids))
    assert (found["images"], found["found"], found["new"]) == (4, 3, 3)
    assert found["missing"] == [LOST]
    assert {row.data["image"]: row.data["folder"] for row in found["where"].records} == {
        planet.SCENE: str(orders / "2023" / "summer" / "more" / planet.SCENE),
        planet.ORTHOTILE: str(orders / "PSOrthoTile" / "4500474" / planet.ORTHOTILE),
        planet.EARLIER: str(orders / "all in one"),
    }
    assert workshop.registered() == set(LABELLED) == set(json.loads(ids.read_text()))
    assert workshop.find(layout="anywhere")["new"] == 0

    for image in LABELLED[:2]:
        workshop.preprocess(image)
        facts = workshop.said(PLANET_SAMPLES, image, labels=str(workshop.labels), **PATCHES)
        assert (facts["flavour"], facts["outlines"], facts["patches"]) == ("planet-pingo", 1, 4)
    assert workshop.said(DATASET)["patches"] == 8
    assert workshop.config()["flavour"] == "planet-pingo"

    # Patches put together again are the images, and their labels the slump in pixels.
    (place,) = (tmp_path / "store/training/default/set").glob("*/data.zarr")
    group, table = zarr.open_group(place, mode="r"), gpd.read_parquet(place.parent / "metadata.parquet")
    assert set(table["image_id"]) == set(LABELLED[:2])
    expected = np.zeros((SIDE, SIDE), dtype=bool)
    expected[20:40, 10:30] = True
    numbers = planet.digital_numbers(planet.FOUR, SIDE)
    for image in LABELLED[:2]:
        y, x = np.zeros((SIDE, SIDE), np.uint8), np.zeros((4, SIDE, SIDE), np.float32)
        for number in np.flatnonzero(table["image_id"] == image):
            row, col = table.loc[number, ["row", "col"]]
            y[row : row + 32, col : col + 32] = group["y"][number]
            x[:, row : row + 32, col : col + 32] = group["x"][number]
        good = planet.stripes(SIDE) == 0
        np.testing.assert_array_equal(y[1:, good] == 1, expected[1:, good])
        brighter = 100 if image == planet.ORTHOTILE else 0
        np.testing.assert_allclose(x[:, 1:, good], ((numbers[:, 1:, good] + brighter) / 10_000 + 0.1) / 0.6, atol=2e-4)


def test_the_layout_of_the_archive_is_what_is_searched_by_default(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    planet.write_image(workshop.labels / "TrainingLabel_iteration001" / "Banks_Island_01", planet.SCENE)
    planet.write_image(workshop.labels / "TrainingLabel_iteration002", planet.ORTHOTILE)  # of another iteration
    found = workshop.find()
    assert (found["found"], found["missing"]) == (1, sorted([planet.ORTHOTILE, planet.EARLIER, LOST]))
    assert workshop.registered() == {planet.SCENE}
    workshop.preprocess(planet.SCENE)
    workshop.said(PLANET_SAMPLES, planet.SCENE, labels=str(workshop.labels), **PATCHES)
    workshop.said(DATASET)
    assert workshop.config()["flavour"] == "planet-archive"

    # What is found elsewhere later is of another flavour.
    planet.write_image(tmp_path / "inbox", planet.EARLIER)
    assert workshop.find(layout="anywhere", folders=[str(tmp_path / "inbox")])["found"] == 1
    place = workshop.settings.root.child("training", "default")
    assert [flavour_of(place, image) for image in (planet.SCENE, planet.EARLIER)] == ["planet-archive", "planet-pingo"]


def test_images_of_a_bucket_become_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    delivered = tmp_path / "delivered"
    planet.write_image(delivered / "iteration001" / "Banks_Island_01", planet.SCENE)
    planet.write_image(delivered / "elsewhere", planet.ORTHOTILE)
    server, bucket = S3Server(tmp_path), f"images-{uuid.uuid4().hex[:8]}"  # GDAL remembers where buckets are
    try:
        server.client.create_bucket(Bucket=bucket)
        for file in filter(Path.is_file, delivered.rglob("*")):
            server.client.upload_file(str(file), bucket, f"orders/{file.relative_to(delivered)}")
        folder = f"s3://{bucket}/orders"
        workshop = Workshop(tmp_path, source_endpoint=server.endpoint, source_region="us-east-1")
        assert workshop.find(folders=[folder])["found"] == 1, "the other is not where the archive has it"
        assert workshop.registered() == {planet.SCENE}
        found = workshop.find(layout="anywhere", folders=[folder])
        assert (found["found"], found["new"], found["missing"]) == (2, 1, sorted([planet.EARLIER, LOST]))
        workshop.preprocess(planet.ORTHOTILE)
        facts = workshop.said(PLANET_SAMPLES, planet.ORTHOTILE, labels=str(workshop.labels), **PATCHES)
        assert (facts["flavour"], facts["outlines"], facts["patches"]) == ("planet-pingo", 1, 4)
    finally:
        server.stop()


def test_what_cannot_be_used_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    inbox = tmp_path / "inbox"
    planet.write_image(inbox, planet.SCENE)
    planet.write_image(inbox, planet.EARLIER, udm2=False)
    for place in ("a", "b"):
        planet.write_image(inbox / place, planet.ORTHOTILE)
    result = run(workshop.settings, workshop.instance, IMAGES, labels=str(workshop.labels), layout="anywhere",
                 folders=[str(inbox)])  # fmt: skip
    assert result.success
    assert workshop.registered() == {planet.SCENE}
    named = "; ".join(warnings(workshop.instance, result))
    assert f"{planet.ORTHOTILE} is in 2 folders" in named
    assert planet.EARLIER in named
    assert "2 of 4 labelled images are missing" in named


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"layout": "anywhere"}, "No folders to search: set folders or DARTS_PLANET."),
        ({}, "none of the 4 images of the label archive is in the folder of its iteration"),
        ({"folders": ["nowhere"]}, "the folder does not exist"),
    ],
)
def test_where_there_are_none(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    workshop = Workshop(tmp_path)
    result = run(workshop.settings, workshop.instance, IMAGES, labels=str(workshop.labels), **config)
    assert words in failure(result)
    assert not workshop.registered()

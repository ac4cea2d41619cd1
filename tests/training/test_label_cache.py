"""Labels of single images: the same as the whole archive has, read without parsing it again."""

import os
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import obstore
import pandas as pd
import pytest
import shapely

from darts_assets.errors import TrainingError
from darts_assets.stores.location import StoreLocation
from darts_assets.training.label_cache import archive_of
from darts_assets.training.labels import LabelArchive, read_archive
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

pytestmark = pytest.mark.slow

IMAGES = 1200


def write_archive(folder: Path, images: int = 3) -> Path:
    """Two outlines on each image; `image-1` has another one of an image that has no footprint."""
    home = folder / "TrainingLabel_iteration002"
    home.mkdir(parents=True, exist_ok=True)
    names = [f"image-{number}" for number in range(images)]
    seen = [shapely.box(-140 + number / 100, 69, -139.995 + number / 100, 69.005) for number in range(images)]
    prints = gpd.GeoDataFrame({"image_id": names, "datasource": "Planet"}, geometry=seen, crs="EPSG:4326")
    drawn = [shape.centroid.buffer(size) for size in (0.001, 0.002) for shape in seen]
    labels = gpd.GeoDataFrame({"image_id": [*names, *names], "label": 1}, geometry=drawn, crs="EPSG:4326")
    lost = gpd.GeoDataFrame({"image_id": ["image-x"], "label": [1]}, geometry=[drawn[1]], crs="EPSG:4326")
    prints.to_file(home / "ImageFootprints.gpkg")
    pd.concat([labels, lost]).to_file(home / "TrainingLabel.gpkg")
    return folder


def same(one: LabelArchive, other: LabelArchive) -> None:
    for left, right in ((one.labels, other.labels), (one.footprints, other.footprints)):
        pd.testing.assert_frame_equal(pd.DataFrame(left.to_wkb()), pd.DataFrame(right.to_wkb()))
        assert left.crs == right.crs
    assert one.iterations == other.iterations


@pytest.fixture
def kept(tmp_path: Path) -> StoreLocation:
    return StoreLocation(str(tmp_path / "store"))


@pytest.mark.parametrize("match_prefix", [False, True])
def test_of_the_real_archive_each_image_has_what_the_whole_has(
    shared: Path, kept: StoreLocation, match_prefix: bool
) -> None:
    folder = shared / "data" / "ml_training_labels"
    whole = read_archive(folder, match_prefix=match_prefix)
    images = list(whole.footprints["image_id"])
    assert sum(len(whole.of_image(image)) for image in images) == len(whole.labels)
    for wanted in ([images[0]], images[3:6], ["5851529_0870615_2022-08-12_2403"], ["nobody"]):
        same(archive_of(wanted, folder, kept, match_prefix=match_prefix), whole.of_images(wanted))


def test_it_is_parsed_once_and_again_when_a_file_changes(tmp_path: Path, kept: StoreLocation) -> None:
    folder = write_archive(tmp_path / "labels")
    first = archive_of(["image-0"], folder, kept)
    assert first.problems == [
        "iteration002: 7 outlines, 3 footprints; 1 outlines of 1 images have no footprint and are left out: 'image-x'"
    ]
    versions = set(kept.keys())
    (labels,) = folder.rglob("TrainingLabel*.gpkg")
    content, status = labels.read_bytes(), labels.stat()
    labels.write_bytes(b"no longer read")
    labels.write_bytes(content[:-1] + b"x")  # same size
    os.utime(labels, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(archive_of(["image-2"], folder, kept).labels) == 2
    assert set(kept.keys()) == versions, "what is kept was read"

    labels.write_bytes(b"no table")
    with pytest.raises(TrainingError, match=r"TrainingLabel\.gpkg: cannot be read"):
        archive_of(["image-0"], folder, kept)
    write_archive(tmp_path / "labels", images=2)
    assert archive_of(["image-2"], folder, kept).footprints.empty
    assert len(set(kept.keys())) == len(versions) + 2, "the two tables that were replaced stay for their readers"


def test_only_what_is_asked_for_is_fetched_from_an_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: S3Server
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    folder, kept = write_archive(tmp_path / "labels", IMAGES), s3.location("training", "default", "labels")
    archive_of(["image-0"], folder, kept)
    sizes = {
        entry["path"].rpartition("/")[2]: entry["size"] for batch in obstore.list(kept.objects()) for entry in batch
    }
    assert sizes["labels.parquet"] > 10 * (1 << 16)
    s3.requests()
    found = archive_of(["image-700"], folder, kept)
    assert (len(found.labels), len(found.footprints)) == (2, 1)
    requests = s3.requests()
    assert sum("labels.parquet" in line for line in requests) < 6, requests


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path)
    yield server
    server.stop()

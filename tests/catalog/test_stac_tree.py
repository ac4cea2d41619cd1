"""The STAC tree: valid, true to the files, movable; updates write what has changed and readers see whole catalogs."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyogrio
import pystac
import pytest
import rasterio
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.table import TableExtension
from pystac.validation import JsonSchemaSTACValidator, set_validator

from darts_assets.catalog import stac_tree
from darts_assets.catalog.catalog_store import SingleWriter, Tree
from darts_assets.catalog.stac_tree import StacUpdate, update_stac
from darts_assets.errors import StoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.replaced_versions import mentioned_versions
from tests.catalog.stac_schemas import offline_validator

from .conftest import ANTIMERIDIAN, MODELS, YAMAL, clone, publish, publish_raw, written

FAMILIES = ["sentinel2", "planet"]


@dataclass(frozen=True)
class Checkpoint:
    """A model, as described by the header of its checkpoint."""

    path: Path
    name: str = "demo"
    bands: tuple[str, ...] = ("red", "ndvi")
    architecture: Mapping[str, Any] = field(
        default_factory=lambda: {"arch": "Unet", "encoder_name": "resnet18", "in_channels": 2, "classes": 1}
    )
    terrain: str | None = "darts-2025"
    temperature: float | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = MODELS["demo"]


@pytest.fixture
def model(tmp_path: Path) -> Checkpoint:
    path = tmp_path / "models" / "demo.ckpt"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return Checkpoint(path)


@pytest.fixture
def update(root: StoreLocation, model: Checkpoint) -> Callable[..., StacUpdate]:
    return lambda *models, **more: update_stac(root, FAMILIES, models or [model], licence="CC-BY-4.0", **more)


def catalog(root: StoreLocation) -> pystac.Catalog:
    return pystac.Catalog.from_file(str(root.path / "catalog" / "catalog.json"))


def items(root: StoreLocation, collection: str = "sentinel2") -> dict[str, pystac.Item]:
    child = catalog(root).get_child(collection)
    return {item.id: item for item in child.get_items()} if child else {}


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    set_validator(offline_validator())
    yield
    set_validator(JsonSchemaSTACValidator())


def validate(root: StoreLocation) -> int:
    return catalog(root).validate_all()


def test_an_item_describes_its_files(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    objects = put("scene-a", has_tiles=True)
    update()
    assert validate(root) == 2  # the scene and the model
    item = items(root)["scene-a"]
    assert item.datetime is not None
    assert item.datetime.isoformat() == "2023-07-15T20:09:01+00:00"
    assert item.properties["darts:objects"] == objects
    assert item.properties["darts:models"] == MODELS
    assert item.properties["processing:software"]["darts_assets"] == "0.1.0"
    assert set(item.assets) == {
        "probabilities", "binarized", "prediction_segments", "prediction_segments-gpkg", "prediction_extent",
        "prediction_extent-gpkg", "thumbnail", "metadata", "probabilities-qml", "binarized-qml",
        "prediction_segments-qml", "prediction_extent-qml", "segmentation",
    }  # fmt: skip
    tile = item.assets["segmentation"]
    key = "tiles/sentinel2/segmentation/scene-a/20240101T000000Z-abcdef01.zarr"
    assert tile.get_absolute_href() == str(root.path / key)
    assert tile.extra_fields["bands"] == [{"name": "probabilities"}]
    style = item.assets["binarized-qml"]
    assert (style.media_type, style.roles) == ("application/x-qgis-layer-settings", ["style"])
    assert style.title == "QGIS style: Detection mask: 1 thaw slump, 0 none"
    hrefs = {key: asset.get_absolute_href() for key, asset in item.assets.items()}
    projection = ProjectionExtension.ext(item)
    for key in ("probabilities", "binarized"):
        with rasterio.open(hrefs[key]) as raster:
            assert raster.crs.to_string() == projection.code == "EPSG:32608"
            assert projection.shape == [raster.height, raster.width]
            assert projection.transform == list(raster.transform)[:6]
            assert projection.bbox == list(raster.bounds)
            (band,) = item.assets[key].extra_fields["bands"]
            assert band["data_type"] == raster.dtypes[0]
            assert band.get("nodata") == raster.nodata
            assert (band["raster:scale"], band["raster:offset"]) == (raster.scales[0], raster.offsets[0])
    table = TableExtension.ext(item)
    read = pyogrio.read_dataframe(hrefs["prediction_segments-gpkg"])
    assert table.row_count == len(read) == objects
    assert {column.name for column in table.columns} == set(read.columns)
    assert table.primary_geometry == "geometry"
    (scene, used) = [link for link in item.links if link.rel == "derived_from"]
    assert scene.get_absolute_href() == str(root.path / "scenes" / "sentinel2" / "scene-a.json")
    assert used.get_absolute_href() == items(root, "models")["demo-abababababababab"].get_self_href()


def test_a_wrong_item_does_not_pass(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    put("scene-a", source={"properties": {"eo:cloud_cover": 3, "view:sun_elevation": 30}})
    update()
    item, published = items(root)["scene-a"], items(root, "models")["demo-abababababababab"]
    assert item.validate()
    wrong: list[tuple[pystac.Item, str, Any]] = [
        (item, "proj:code", "somewhere"),
        (item, "proj:shape", [96]),
        (item, "proj:epsg", 32608),  # of an older version of the extension
        (item, "table:row_count", -1),
        (item, "table:columns", [{"type": "int64"}]),
        (item, "processing:level", "four"),
        (item, "processing:software", {"darts_assets": 1}),
        (item, "eo:cloud_cover", 101),
        (item, "view:sun_elevation", "low"),
        (published, "mlm:name", "1"),
        (published, "mlm:input", [{"name": "features"}]),
        (published, "bands", []),
    ]
    for good, name, value in wrong:
        bad = pystac.Item.from_dict(good.to_dict())
        bad.properties[name] = value
        with pytest.raises(pystac.STACValidationError):
            bad.validate()
    bad = pystac.Item.from_dict(item.to_dict())
    bad.assets["probabilities"].extra_fields["bands"][0]["raster:scale"] = "1"
    with pytest.raises(pystac.STACValidationError):
        bad.validate()
    for key, value in (("file:size", -1), ("file:checksum", "SHA"), ("classification:classes", [{"value": 1}])):
        bad = pystac.Item.from_dict(item.to_dict())
        bad.assets["binarized"].extra_fields[key] = value
        with pytest.raises(pystac.STACValidationError):
            bad.validate()
    bad = pystac.Item.from_dict(published.to_dict())
    bad.assets["checkpoint"].roles = ["data"]
    with pytest.raises(pystac.STACValidationError):
        bad.validate()


def test_the_model_is_published_with_its_checkpoint(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a")
    update()
    (item,) = items(root, "models").values()
    published = MLMExtension.ext(item)
    assert (published.mlm_name, published.architecture) == ("demo", "Unet resnet18")
    assert published.input[0].bands == ["red", "ndvi"]
    scaling = item.properties["mlm:input"][0]["value_scaling"]
    assert [(each["minimum"], each["maximum"]) for each in scaling] == [(-0.1, 0.5), (-1, 1)]
    assert item.properties["darts:sha256"] == MODELS["demo"]
    assert Path(item.assets["checkpoint"].get_absolute_href()).read_bytes() == b"weights"
    assert "darts:temperature" not in item.properties


def test_a_calibrated_model_has_its_temperature(
    root: StoreLocation, put: Callable[..., int], update: Callable, model: Checkpoint
) -> None:
    put("scene-a")
    update(replace(model, temperature=1.7))
    (item,) = items(root, "models").values()
    assert item.properties["darts:temperature"] == 1.7


def test_a_model_with_a_card_has_its_accuracy_and_licence(
    root: StoreLocation, put: Callable[..., int], update: Callable, model: Checkpoint
) -> None:
    put("scene-a")
    accuracy = {"validation": {"iou": {"value": 0.5, "low": 0.4, "high": None}}}
    card = {"markdown": "# Model demo\n", "licence": "CC-BY-4.0", "accuracy": accuracy}
    for publish_checkpoints in (True, False):
        update(replace(model, card=card), publish_checkpoints=publish_checkpoints)
        assert validate(root) == 2
        (item,) = items(root, "models").values()
        assert item.properties["darts:accuracy"] == accuracy
        assert item.properties["license"] == "CC-BY-4.0"
        assert item.assets["card"].media_type == "text/markdown"
        assert Path(item.assets["card"].get_absolute_href()).read_text() == "# Model demo\n"


def test_checkpoints_can_be_withheld_and_added_again(
    root: StoreLocation, put: Callable[..., int], update: Callable, model: Checkpoint
) -> None:
    put("scene-a")
    versions = [update().version]
    checkpoint = items(root, "models")["demo-abababababababab"].assets["checkpoint"]
    assert checkpoint.extra_fields["file:size"] == len(b"weights")
    assert checkpoint.extra_fields["file:checksum"] == "1220" + model.sha256
    weights = Path(checkpoint.get_absolute_href())
    versions.append(update(publish_checkpoints=False).version)
    assert not weights.exists()
    item = items(root, "models")["demo-abababababababab"]
    withheld = item.assets["checkpoint"]
    assert withheld.href == "ni:///sha-256;q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s"  # RFC 6920
    assert withheld.title == "Checkpoint, not published"
    assert withheld.extra_fields["file:checksum"] == "1220" + model.sha256
    assert validate(root) == 2
    assert len([link for link in items(root)["scene-a"].links if link.rel == "derived_from"]) == 2
    assert update(publish_checkpoints=False).version == versions[1] != versions[0]
    versions.append(update().version)
    assert weights.read_bytes() == b"weights"
    assert validate(root) == 2
    assert versions[2] == versions[0]


def test_a_checkpoint_is_never_copied_if_it_is_withheld_from_the_start(
    root: StoreLocation, put: Callable[..., int], update: Callable, model: Checkpoint
) -> None:
    put("scene-a")
    update(publish_checkpoints=False)
    assert [path.name for path in (root.path / "catalog/stac/models").iterdir() if path.suffix != ".json"] == []
    assert validate(root) == 2
    update(replace(model, sha256="cd" * 32))  # the checkpoint is no longer local
    assert items(root, "models")["demo-abababababababab"].assets["checkpoint"].href.startswith("ni:///")


def test_an_item_has_the_facts_of_its_acquisition_and_files(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    source = {"properties": {"eo:cloud_cover": 3.5, "view:off_nadir": 4, "platform": "S2A", "instruments": ["msi"]}}
    put("scene-a", products=("binarized", "quality_data_mask"), source=source)
    update()
    assert validate(root) == 2
    item = items(root)["scene-a"]
    assert (item.properties["eo:cloud_cover"], item.properties["view:off_nadir"]) == (3.5, 4)
    assert (item.common_metadata.platform, item.common_metadata.gsd) == ("S2A", 10)
    for asset in item.assets.values():
        content = Path(asset.get_absolute_href()).read_bytes()
        assert FileExtension.ext(asset).size == len(content)
        assert FileExtension.ext(asset).checksum == "1220" + hashlib.sha256(content).hexdigest()
    classes = {
        key: [(each.value, each.name, each.nodata) for each in ClassificationExtension.ext(item.assets[key]).classes]
        for key in ("binarized", "quality_data_mask")
    }
    assert classes["binarized"] == [(0, "no_thaw_slump", None), (1, "thaw_slump", None), (255, "not_seen", True)]
    assert [each[:2] for each in classes["quality_data_mask"]] == [
        (0, "invalid"), (1, "low_quality"), (2, "high_quality"),
    ]  # fmt: skip
    assert ClassificationExtension.ext(item.assets["binarized"]).classes[1].color_hint == "D7301F"
    assert "classification:classes" not in item.assets["binarized-qml"].extra_fields


def test_products_without_checksums_have_sizes_only(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a")
    pointer = root.path / "products/sentinel2/scene-a/current.json"
    content = json.loads(pointer.read_text())
    for facts in content["metadata"]["files"].values():
        del facts["sha256"]
    pointer.write_text(json.dumps(content))
    update()
    asset = items(root)["scene-a"].assets["probabilities"]
    assert asset.extra_fields["file:size"] > 0
    assert "file:checksum" not in asset.extra_fields
    assert validate(root) == 2


def test_the_collection_of_models_is_valid_also_in_an_old_store(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a")
    update()
    models = catalog(root).get_child("models")
    assert isinstance(models, pystac.Collection)
    models.validate()
    assert models.summaries.get_schema("mlm:tasks")["items"]["enum"] == ["semantic-segmentation"]
    path = root.path / "catalog" / "stac" / "models" / "collection.json"
    old = json.loads(path.read_text()) | {"summaries": {"mlm:tasks": ["semantic-segmentation"]}}
    path.write_text(json.dumps(old))
    with pytest.raises(pystac.STACValidationError):
        catalog(root).get_child("models").validate()
    update()
    catalog(root).get_child("models").validate()


def test_a_model_without_a_local_checkpoint_has_no_item(
    root: StoreLocation, put: Callable[..., int], update: Callable, model: Checkpoint
) -> None:
    put("scene-a")
    update(replace(model, sha256="cd" * 32))
    assert items(root, "models") == {}
    item = items(root)["scene-a"]
    assert item.properties["darts:models"] == MODELS
    assert len([link for link in item.links if link.rel == "derived_from"]) == 1
    assert validate(root) == 1


def test_collections_summarize_their_items(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    put("scene-a")
    put("scene-b", YAMAL, when="2021-08-01T07:00:00+00:00", objects=2)
    publish(root, "image-1", family="planet")
    done = update()
    assert done.items == {"sentinel2": 2, "planet": 1}
    assert validate(root) == 4
    collection = catalog(root).get_child("sentinel2")
    assert isinstance(collection, pystac.Collection)
    assert collection.license == "CC-BY-4.0"
    west, south, east, north = collection.extent.spatial.bboxes[0]
    boxes = [item.bbox for item in collection.get_items()]
    assert (south, north) == (min(box[1] for box in boxes), max(box[3] for box in boxes))
    assert west == pytest.approx(67.7, abs=0.2)  # from Yamal over the Pacific to the Peel
    assert east == pytest.approx(-136.2, abs=0.2)
    start, end = collection.extent.temporal.intervals[0]
    assert (start.year, end.year) == (2021, 2023)
    assert collection.summaries.get_list("proj:code") == ["EPSG:32608", "EPSG:32642"]


def test_a_scene_over_the_antimeridian(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    put("scene-a", ANTIMERIDIAN)
    update()
    assert validate(root) == 2
    item = items(root)["scene-a"]
    assert item.geometry["type"] == "MultiPolygon"
    west, _, east, _ = item.bbox
    assert 179.9 < west < 180
    assert -180 < east < -179.9


def test_a_clouded_scene_and_one_without_polygons(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    assert put("clouded", objects=0) == 0
    put("rasters", products=("probabilities",))
    update()
    assert validate(root) == 3
    published = items(root)
    assert TableExtension.ext(published["clouded"]).row_count == 0
    assert set(published["rasters"].assets) == {"probabilities", "probabilities-qml"}


def test_the_tree_can_be_moved(root: StoreLocation, put: Callable[..., int], update: Callable, tmp_path: Path) -> None:
    put("scene-a")
    update()
    moved = StoreLocation(str(tmp_path / "elsewhere"))
    shutil.move(root.path, moved.path)
    assert validate(moved) == 2
    for item in catalog(moved).get_items(recursive=True):
        assert all(Path(asset.get_absolute_href()).is_file() for asset in item.assets.values())
    assert str(root.path) not in "".join(path.read_text() for path in (moved.path / "catalog").rglob("*.json"))


def test_only_what_has_changed_is_written(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    put("scene-a")
    clone(root, "scene-a", "scene-b")
    clone(root, "scene-a", "scene-c")
    update()
    folder = root.path / "catalog"
    first = written(folder)
    again = update()
    assert (again.written, again.removed) == (0, 0)
    assert written(folder) == first, "nothing has changed, nothing is written"

    clone(root, "scene-a", "scene-d")
    clone(root, "scene-a", "scene-a", data_version="new")
    assert update().written == 2
    second = written(folder)
    changed = {name for name in second if second[name] != first.get(name)}
    assert {name.split("/")[2] for name in changed} == {"collection.json", "items.parquet", "scene-a", "scene-d"}
    assert len(changed) == 4
    assert set(first) <= set(second), "items of the previous catalog still exist"
    assert items(root)["scene-a"].properties["darts:data_version"] == "new"

    shutil.rmtree(root.path / "products" / "sentinel2" / "scene-b")
    done = update()
    assert (done.removed, done.deleted) == (1, 1)  # of the catalog: scene-b; of the store: what scene-a was before
    assert set(items(root)) == {"scene-a", "scene-c", "scene-d"}
    assert update().deleted == 1
    left = {path.parent.name for path in (folder / "stac" / "sentinel2").rglob("*/*.json")}
    assert left == set(items(root))


def test_an_item_follows_its_raw_scene(root: StoreLocation, put: Callable[..., int], update: Callable) -> None:
    put("scene-a", raw=publish_raw(root, "scene-a", "red"), has_tiles=True)
    put("scene-b", seed=1, raw=publish_raw(root, "scene-b", "red"))
    update()
    segmentation = items(root)["scene-a"].assets["segmentation"].href
    assert update().written == 0

    newer = publish_raw(root, "scene-a", "red", "s2_scl")  # a band fetched later
    assert update().written == 1
    item = items(root)["scene-a"]
    assert item.assets["raw_scene"].href.endswith(f"/{newer}")
    assert [band["name"] for band in item.assets["raw_scene"].extra_fields["bands"]] == ["red", "s2_scl"]
    assert item.assets["segmentation"].href == segmentation
    assert newer.rpartition("/")[2] in mentioned_versions(root, "scene-a"), "it is not collected"
    assert update().written == 0

    pointer = root.path / "raw/cdse/scene-a/current.json"
    pointer.write_text("{")
    assert update().written == 1
    assert not items(root)["scene-a"].assets["raw_scene"].href.endswith(f"/{newer}"), "that of the products"
    pointer.unlink()
    assert update().written == 0


def test_items_of_a_former_catalog_get_the_current_raw_scene(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a", raw=publish_raw(root, "scene-a", "red"))
    newer = publish_raw(root, "scene-a", "red", "s2_scl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stac_tree, "with_current_raw", lambda store, products: products)
        patch.setattr(stac_tree, "LAYOUT", "1")
        update()
    assert not items(root)["scene-a"].assets["raw_scene"].href.endswith(newer)
    assert update().written == 1
    assert items(root)["scene-a"].assets["raw_scene"].href.endswith(newer)


def test_the_order_in_which_scenes_come_does_not_matter(root: StoreLocation, tmp_path: Path, model: Checkpoint) -> None:
    publish(root, "scene-a")
    clone(root, "scene-a", "scene-b")
    clone(root, "scene-a", "scene-c")
    other = StoreLocation(str(tmp_path / "other"))
    update_stac(root, FAMILIES, [model], licence="other")
    shutil.copytree(root.path, other.path)
    shutil.rmtree(other.path / "catalog")
    for name in "bca":
        parked = tmp_path / f"scene-{name}"
        shutil.move(other.path / "products" / "sentinel2" / parked.name, parked)
    for name in "cab":
        shutil.move(tmp_path / f"scene-{name}", other.path / "products" / "sentinel2" / f"scene-{name}")
        update_stac(other, FAMILIES, [model], licence="other")
    actual, expected = (
        {path.relative_to(each.path): path.read_text() for path in each.path.glob("catalog/stac/*/scene-*/*.json")}
        for each in (other, root)
    )
    assert len(expected) == 3
    assert actual == expected


def test_when_nothing_is_left_the_catalog_is_empty(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a")
    update()
    shutil.rmtree(root.path / "products")
    assert update().items == {"sentinel2": 0, "planet": 0}
    assert [child.id for child in catalog(root).get_children()] == ["models"]
    validate(root)


def test_products_without_metadata_for_the_catalog_are_listed(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a")
    put("old", products=("metadata",), facts={})
    damaged = root.path / "products" / "sentinel2" / "damaged"
    damaged.mkdir()
    (damaged / "current.json").write_text("{")
    assert update().unusable == ["damaged", "old"]
    assert set(items(root)) == {"scene-a"}


def test_of_two_writers_the_earlier_one_fails(root: StoreLocation, put: Callable[..., int]) -> None:
    tree = Tree(root.child("catalog"))
    with SingleWriter(tree, ".w") as earlier, SingleWriter(tree, ".w") as later:
        later.check()
        with pytest.raises(StoreError, match="another run is writing the catalog"):
            earlier.check()
    with SingleWriter(tree, ".w") as turn:
        turn.check()
    assert not tree.exists(".w")


@pytest.mark.slow
def test_a_killed_update_shows_nothing_and_the_next_one_heals(
    root: StoreLocation, put: Callable[..., int], update: Callable
) -> None:
    put("scene-a")
    update()
    clone(root, "scene-a", "scene-a", data_version="new")
    for number in range(40):
        clone(root, "scene-a", f"scene-{number:02d}")
    before = json.loads((root.path / "catalog/stac/sentinel2/collection.json").read_text())
    # Killed after ten items, to which no collection links.
    script = (
        "import os, signal, sys, threading, time, pathlib\n"
        "from darts_assets.catalog.stac_tree import update_stac\n"
        "from darts_assets.stores.location import StoreLocation\n"
        f"root = pathlib.Path({str(root.path)!r})\n"
        "def watch():\n"
        "    while sum(1 for _ in (root / 'catalog').rglob('scene-*/*.json')) < 12: time.sleep(0.0005)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        f"update_stac(StoreLocation(str(root)), {FAMILIES!r}, [], licence='other')\n"
        "time.sleep(5)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    collection = json.loads((root.path / "catalog/stac/sentinel2/collection.json").read_text())
    assert collection == before or len(items(root)) == 41
    assert validate(root) == len(items(root)) + 1
    update()
    assert len(items(root)) == 41
    update()
    left = list((root.path / "catalog" / "stac" / "sentinel2").rglob("scene-*/*.json"))
    assert len(left) == 41
    assert not [path for path in (root.path / "catalog").rglob("*") if "writ" in path.name or "#" in path.name]

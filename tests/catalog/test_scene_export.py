"""Exports of products: selection, copies, the merged GeoPackage and the QGIS project."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import obstore
import pyogrio
import pytest
import shapely
from click.testing import CliRunner, Result

from darts_assets.catalog.scene_export import ExportResult, SceneSelection, export_scenes
from darts_assets.cli import cli
from darts_assets.errors import SettingsError
from darts_assets.stores.location import StoreLocation
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

from .conftest import ANTIMERIDIAN, PEEL, YAMAL, clone, publish, written

READER = Path(__file__).parents[1] / "qgis_project_reader.py"
PYTHON = "/usr/bin/python3"
GEOPACKAGE = "slumps.gpkg"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoreLocation, dict[str, int]]:
    """A store with scenes of three UTM zones, one of them as an earlier version wrote it; objects of each."""
    root = StoreLocation(str(tmp_path_factory.mktemp("published") / "store"))
    objects = {
        "peel": publish(root, "peel"),
        "yamal": publish(root, "yamal", YAMAL, when="2021-08-01T07:00:00+00:00", standalone=False),
        "chukotka": publish(root, "chukotka", ANTIMERIDIAN, when="2022-07-01T00:00:00+00:00", objects=40),
        "clouded": publish(root, "clouded", objects=0),
        "image": publish(root, "image", family="planet"),
    }
    return root, objects


@pytest.fixture
def target(tmp_path: Path) -> StoreLocation:
    return StoreLocation(str(tmp_path / "exported"))


@pytest.fixture
def command(published: Any, target: StoreLocation, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("DARTS_STORE", published[0].url)
    return lambda *arguments: CliRunner().invoke(cli, ["export", target.url, *map(str, arguments)])


def scenes_of(target: StoreLocation) -> set[str]:
    return {path.parent.name for path in target.path.glob("*/*/versions.json")}


def test_files_are_copied_and_tables_merged(published: Any, target: StoreLocation) -> None:
    root, objects = published
    lines: list[str] = []
    done = export_scenes(root, target, SceneSelection(), progress=lines.append)
    assert (done.scenes, done.failed, done.unchanged) == (5, {}, 0)
    assert sorted(line.partition(":")[0] for line in lines) == sorted(objects)
    assert all(re.search(r": \d{4}-\d\d-\d\d .*, \d+ of \d+ files copied$", line) for line in lines)
    for family, scene in [("sentinel2", "peel"), ("planet", "image")]:
        place = root.path / "products" / family / scene
        contents = json.loads((place / "current.json").read_text())["contents"]
        for name, version in contents.items():
            assert (target.path / family / scene / name).read_bytes() == (place / version / name).read_bytes()
    merged = target.path / GEOPACKAGE
    assert {name for name, _ in pyogrio.list_layers(merged)} == {"prediction_segments", "prediction_extent"}
    table = gpd.read_file(merged, layer="prediction_segments")
    assert table.crs == "EPSG:4326"
    assert table.groupby("scene_id").size().to_dict() == {name: count for name, count in objects.items() if count}
    assert done.rows["prediction_segments"] == len(table)
    for column in ("area_m2", "datetime", "model", "code_version"):
        assert table[column].notna().all(), column
    assert table.is_valid.all()
    assert (table.to_crs("EPSG:6931").area / table["area_m2"] - 1).abs().max() < 1e-5
    assert (table.bounds.maxx - table.bounds.minx).max() > 359, "cut at the antimeridian"
    assert set(gpd.read_file(merged, layer="prediction_extent")["scene_id"]) == set(objects)


def test_another_crs_of_the_merged_layers(published: Any, target: StoreLocation) -> None:
    export_scenes(published[0], target, SceneSelection(["peel", "yamal"]), products=["polygonized"], crs="EPSG:3413")
    table = gpd.read_file(target.path / GEOPACKAGE, layer="prediction_segments")
    assert table.crs == "EPSG:3413"
    source = gpd.read_parquet(target.path / "sentinel2" / "peel" / "prediction_segments.parquet").to_crs("EPSG:3413")
    mine = table[table["scene_id"] == "peel"]
    np.testing.assert_allclose(mine.total_bounds, source.total_bounds)


@pytest.mark.parametrize(
    ("options", "scenes"),
    [
        (["peel", "image"], {"peel", "image"}),
        (["--family", "planet"], {"image"}),
        (["--start", "2022", "--end", "2022"], {"chukotka"}),
        (["--start", "2022-07-01", "--end", "2022-07-01"], {"chukotka"}),
        (["--end", "2022-06-30"], {"yamal"}),
        (["--start", "2023-07-16"], None),
    ],
)
def test_selections(command: Callable[..., Result], target: StoreLocation, options: list[str], scenes: Any) -> None:
    done = command(*options, "--products", "metadata")
    if scenes is None:
        assert done.exit_code == 1
        assert "no scene with products in" in done.output
        return
    assert done.exit_code == 0, done.output
    assert scenes_of(target) == scenes
    assert {path.name for path in target.path.glob("*/*/*")} == {"metadata.json", "versions.json"}


def test_by_area_and_by_a_file_of_ids(command: Callable[..., Result], target: StoreLocation, tmp_path: Path) -> None:
    x, y = PEEL.left + 100, PEEL.top - 100
    aoi = gpd.GeoDataFrame(geometry=[shapely.box(x, y - 50, x + 50, y)], crs=f"EPSG:{PEEL.epsg}")
    aoi.to_file(tmp_path / "aoi.gpkg")
    assert command("--aoi", tmp_path / "aoi.gpkg", "--products", "extent").exit_code == 0
    assert scenes_of(target) == {"peel", "clouded", "image"}
    shutil.rmtree(target.path)
    (tmp_path / "ids.txt").write_text("# mine\npeel\n\nyamal # the other one\n")
    assert command("--ids-file", tmp_path / "ids.txt").exit_code == 0
    assert scenes_of(target) == {"peel", "yamal"}


def test_unknown_scenes_and_products_are_listed_and_the_rest_is_exported(
    command: Callable[..., Result], target: StoreLocation
) -> None:
    done = command("peel", "nowhere", "--products", "extent")
    assert done.exit_code == 1
    assert "nowhere: the store has no products of this scene" in done.output
    assert "1 scenes in" in done.output
    assert (target.path / "sentinel2" / "peel" / "prediction_extent.gpkg").is_file()
    done = command("peel", "--products", "extent,hillshade")
    assert done.exit_code == 1
    assert "peel: there is no product hillshade" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crs": "EPSG:0"}, "'EPSG:0' is not a CRS; expected for example EPSG:3413"),
        ({"selection": {"start": "last year"}}, "'last year' is not a time; expected a year"),
        ({"selection": {"ids": ["nowhere"]}}, "nowhere: the store has no products"),
        ({"inside": True}, "the target lies in the store"),
    ],
)
def test_errors_name_what_was_expected(
    published: Any, target: StoreLocation, arguments: dict[str, Any], message: str
) -> None:
    root = published[0]
    to = root.child("exports") if arguments.pop("inside", False) else target
    with pytest.raises(SettingsError, match=message):
        export_scenes(root, to, SceneSelection(**arguments.pop("selection", {})), **arguments)


def test_a_second_export_copies_what_has_changed(root: StoreLocation, target: StoreLocation) -> None:
    publish(root, "scene-a")
    clone(root, "scene-a", "scene-b")

    def again() -> ExportResult:
        return export_scenes(root, target, SceneSelection())

    first = again()
    files = {name: state for name, state in written(target.path).items() if "/" in name}
    done = again()
    assert (done.copied, done.unchanged) == (0, first.copied)
    assert {name: state for name, state in written(target.path).items() if "/" in name} == files
    clone(root, "scene-a", "scene-b", data_version="new")
    (target.path / "sentinel2" / "scene-a" / "metadata.json").write_text("cut")
    done = again()
    assert done.copied == first.copied / 2 + 1
    assert not [path for path in target.path.rglob("*") if "#" in path.name]


def test_qgis_opens_the_project(published: Any, target: StoreLocation, tmp_path: Path) -> None:
    if not Path(PYTHON).exists() or subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True).returncode:
        pytest.skip("QGIS (Debian: qgis, python3-qgis) is not installed")
    root, objects = published
    export_scenes(root, target, SceneSelection(["peel", "yamal"]))
    moved = tmp_path / "elsewhere"
    shutil.move(target.path, moved)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [PYTHON, str(READER), str(moved / "slumps.qgs")], capture_output=True, text=True, timeout=120,
        env={**environment, "QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    project = json.loads(done.stdout.splitlines()[-1])
    assert project["crs"] == "EPSG:4326"
    layers = {(layer["group"], layer["name"]): layer for layer in project["layers"]}
    assert len(layers) == 2 + 2 * 4
    assert [layer for layer in project["layers"] if not layer["valid"]] == []
    assert layers["All scenes", "prediction_segments"]["size"] == objects["peel"] + objects["yamal"]
    assert layers["All scenes", "prediction_segments"]["renderer"] == "graduatedSymbol"
    assert layers["yamal", "prediction_extent"]["renderer"] == "singleSymbol"
    assert layers["yamal", "prediction_segments"]["size"] == objects["yamal"]
    assert layers["yamal", "binarized"]["renderer"] == "paletted"
    assert layers["peel", "probabilities"]["renderer"] == "singlebandpseudocolor"
    assert layers["yamal", "probabilities"]["crs"] == "EPSG:32642"
    assert {group for (group, _), layer in layers.items() if layer["shown"]} == {"All scenes"}


@pytest.mark.slow
def test_from_and_to_s3(
    published: Any, target: StoreLocation, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        bucket, selection = server.location("root"), SceneSelection(["peel"])
        export_scenes(published[0], target, selection)
        wanted = {
            key: path.read_bytes() for path in target.path.glob("*/*/*") if (key := path.relative_to(target.path))
        }
        remote, copy = bucket.child("store"), bucket.child("copy")
        done = export_scenes(published[0], bucket.child("up"), selection)
        for path in sorted((published[0].path / "products").rglob("*")):
            if path.is_file():
                obstore.put(remote.objects(), str(path.relative_to(published[0].path)), path)
        assert export_scenes(remote, copy, selection).copied == done.copied == len(wanted) - 1
        down = StoreLocation(str(tmp_path_factory.mktemp("down") / "here"))
        assert export_scenes(remote, down, selection).copied == done.copied
        for key, content in wanted.items():
            assert (down.path / key).read_bytes() == content
            for place in ("up", "copy"):
                assert bytes(obstore.get(bucket.child(place).objects(), str(key)).bytes()) == content
        copies = [key for method, key, _ in map(str.split, server.requests()) if method == "PUT" and "/copy/" in key]
        assert len(copies) == done.copied + 3  # versions.json, slumps.gpkg, slumps.qgs
        assert export_scenes(remote, copy, selection).copied == 0
    finally:
        server.stop()

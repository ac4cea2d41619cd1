"""From a scene to the catalog through Dagster, and what others open there: the commands of the README."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import geopandas as gpd
import pyogrio
import pystac
import pytest
import xarray as xr
from rio_cogeo.cogeo import cog_validate

from darts_assets.demo import World
from darts_assets.orchestration.inventory.assets import RTS, SLUMPS, build_inventory
from darts_assets.settings import Settings
from darts_assets.stores.scene_paths import scene_paths
from tests.e2e.harness import DEMO_MODEL, QUIET, Site, metadata_of, reason


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[Site]:
    """A scene from its item to its products, with a raster of each kind."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "dagster").mkdir()
    (folder / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    instance = dg.DagsterInstance.from_config(str(folder / "dagster"))
    sources = {"arcticdem": str(world.arcticdem), "tcvis": world.tcvis, "models": (DEMO_MODEL,)}
    settings = Settings(store=str(folder / "store"), **sources)
    site = Site(folder, settings, instance)
    (scene,) = site.register(world.items[0])
    wanted = [
        "probabilities",
        "binarized",
        "polygonized",
        "extent",
        "thumbnail",
        "metadata",
        "optical",
        "tcvis",
        "slope",
    ]
    result = site.run(scene, products={"products": wanted})
    assert result.success, reason(result)
    yield site
    instance.dispose()


@pytest.fixture(scope="module")
def published(site: Site) -> dg.ExecuteInProcessResult:
    return publish(site)


def publish(site: Site) -> dg.ExecuteInProcessResult:
    job = site.defs.resolve_job_def("publish_catalog")
    return job.execute_in_process(instance=site.instance, run_config=QUIET)


def update_inventory(site: Site) -> None:
    for key, year in ((RTS, "2023"), (SLUMPS, None)):
        (asset,) = [asset for asset in build_inventory() if asset.key == key]
        resources = {name: site.resource(name) for name in ("store", "scenes")}
        result = dg.materialize(
            [asset], partition_key=year, instance=site.instance, resources=resources, run_config=QUIET
        )
        assert result.success


def store(site: Site) -> Path:
    return Path(site.settings.store)


def test_a_materialization_says_what_was_published(site: Site, published: dg.ExecuteInProcessResult) -> None:
    stac, detections = (metadata_of(published, name) for name in ("stac", "detections"))
    assert (stac["items"], stac["written"], stac["unusable"]) == (1, 1, 0)
    assert stac["by_family"] == {"sentinel2": 1, "planet": 0}
    assert stac["Map"].startswith("![](data:image/webp;base64,")
    assert Path(stac["path"]).is_file()
    objects = len(site.load("polygons", site.instance.get_dynamic_partitions("sentinel2_scene")[0])["segments"])
    assert objects > 0
    assert detections["dagster/row_count"] == objects
    assert (detections["scenes"], detections["files"]) == (1, 1)
    (row,) = [record.data for record in detections["regions"].records]
    assert (row["year"], row["region"], row["rows"]) == ("2023", "08W", objects)


def test_pystac_opens_the_scene_with_its_model_and_its_files(site: Site, published: dg.ExecuteInProcessResult) -> None:
    catalog = pystac.Catalog.from_file(str(store(site) / "catalog" / "catalog.json"))
    assert [child.id for child in catalog.get_children()] == ["sentinel2", "models", "detections"]
    (item,) = catalog.get_child("sentinel2").get_items()
    tiles = {
        name: asset for name, asset in item.assets.items() if asset.media_type == "application/vnd.zarr; version=3"
    }
    files = [asset for name, asset in item.assets.items() if name not in tiles]
    assert all(Path(asset.get_absolute_href()).is_file() for asset in files)
    paths = scene_paths(site.settings.root, item.id)
    assert {name: str(Path(asset.get_absolute_href()).resolve()) for name, asset in tiles.items()} == {
        step: paths[step] for step in ("raw_scene", "preprocessed_tile", "segmentation")
    }
    for asset in tiles.values():
        with xr.open_zarr(asset.get_absolute_href()) as opened:
            assert {band["name"] for band in asset.extra_fields["bands"]} == set(opened.data_vars)
    linked = [Path(link.get_absolute_href()) for link in item.links if link.rel == "derived_from"]
    assert all(path.is_file() for path in linked)
    source, model = (json.loads(path.read_text()) for path in linked)
    assert source["id"] == item.id
    assert model["properties"]["darts:sha256"] == item.properties["darts:models"]["demo"]
    assert model["properties"]["mlm:architecture"].startswith("unet ")


def test_rasters_are_cogs_and_the_geopackage_has_its_layer(site: Site, published: dg.ExecuteInProcessResult) -> None:
    catalog = pystac.Catalog.from_file(str(store(site) / "catalog" / "catalog.json"))
    (item,) = catalog.get_child("sentinel2").get_items()
    rasters = [asset for asset in item.assets.values() if asset.media_type == pystac.MediaType.COG]
    assert len(rasters) == 5
    for asset in rasters:
        valid, errors, warnings = cog_validate(asset.get_absolute_href(), strict=True, quiet=True)
        assert (valid, errors, warnings) == (True, [], [])
    geopackage = item.assets["prediction_segments-gpkg"].get_absolute_href()
    assert pyogrio.list_layers(geopackage).tolist() == [["prediction_segments", "MultiPolygon"]]
    info = pyogrio.read_info(geopackage)
    assert info["features"] == item.properties["table:row_count"]
    assert info["crs"] == item.properties["proj:code"]


def test_the_queries_of_the_readmes_answer(site: Site, published: dg.ExecuteInProcessResult) -> None:
    root = str(store(site))

    def blocks(readme: str, language: str) -> list[str]:
        text = (Path(__file__).parents[2] / readme).read_text()
        return [block.replace("darts-data", root) for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]

    (sql, of_items), (python,) = (
        blocks("darts_assets/catalog/README.md", "sql"),
        blocks("darts_assets/catalog/README.md", "python"),
    )
    rows = duckdb.sql(sql).fetchall()
    assert len(rows) > 0
    assert all(row[0].startswith("S2A_MSIL2A_20230715") for row in rows)
    names: dict[str, Any] = {}
    exec(python, names)
    assert isinstance(names["slumps"], gpd.GeoDataFrame)
    assert len(names["slumps"]) == len(rows)
    assert [item.id for item in names["scenes"]] == [rows[0][0].partition("/")[0]]
    ((scene, cloud_cover, href),) = duckdb.sql(of_items).fetchall()
    assert (scene, cloud_cover) == (names["scenes"][0].id, names["scenes"][0].properties["eo:cloud_cover"])
    assert (store(site) / "catalog" / "stac" / "sentinel2" / href).is_file()

    (sql,), (python,) = blocks("README.md", "sql"), blocks("README.md", "python")
    assert duckdb.sql(sql).fetchall() == [(2023, len(rows), pytest.approx(names["slumps"]["area_m2"].sum() / 1e4))]
    exec(python, names)
    assert len(names["slumps"]) == len(rows)


def test_a_second_run_has_nothing_to_write(site: Site, published: dg.ExecuteInProcessResult) -> None:
    again = publish(site)
    assert metadata_of(again, "stac")["written"] == 0
    assert metadata_of(again, "detections")["written"] == []

    def versions(result: dg.ExecuteInProcessResult) -> list[str]:
        events = result.get_asset_materialization_events()
        return sorted(event.materialization.tags["dagster/data_version"] for event in events)

    assert versions(again) == versions(published), "the same content is the same version"


def test_the_map_shows_the_inventory_with_its_scenes(site: Site, published: dg.ExecuteInProcessResult) -> None:
    before = metadata_of(published, "map")
    assert (before["slumps"], before["sites"], before["scenes"]) == (0, 0, 0)
    update_inventory(site)
    after = metadata_of(publish(site), "map")
    assert after["slumps"] == after["sites"] > 0
    assert (after["years"], after["scenes"], after["data_written"]) == ([2023], 1, True)
    assert after["open"] == "darts-assets map-server"
    page = Path(after["path"])
    description = json.loads((page.parent / "map.json").read_text())
    sites = gpd.read_file(page.parent / description["folder"] / "sites.fgb")
    inventory = gpd.read_parquet(next((store(site) / "inventory" / "slumps").glob("2*/rts_sites.parquet")))
    assert set(sites["site_id"]) == set(inventory["site_id"])
    assert sites.area.sum() == pytest.approx(inventory.to_crs("EPSG:3413").area.sum())
    scene = gpd.read_file(page.parent / description["folder"] / "scenes.fgb").iloc[0]
    item = json.loads((page.parent / scene["item"]).read_text())
    assert item["id"] == scene["scene_id"] == sites["scenes"][0]
    thumbnail = page.parent / Path(scene["item"]).parent / item["assets"]["thumbnail"]["href"]
    assert thumbnail.is_file(), "a link of the card"
    assert metadata_of(publish(site), "map")["data_written"] is False

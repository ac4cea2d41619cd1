"""One scene, end to end, through Dagster: what is written, recorded, repeated, left out and refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.windows import Window
from shapely.geometry import mapping

from darts_assets.bands import FEATURES, TCVIS
from darts_assets.cubes.tcvis import RESOLUTION
from darts_assets.demo import World
from darts_assets.errors import NotReadableError
from darts_assets.orchestration.core.partitions import CHUNK_KEYS, SENTINEL2, STEPS
from darts_assets.orchestration.run_monitoring.event_log import step_rows
from darts_assets.orchestration.scene_chain.segmentation import SegmentationConfig
from darts_assets.stores.tiles import read_tile
from tests.e2e.harness import SMALL_PATCHES, Site, metadata_of, reason

DEFAULT_FILES = {
    "probabilities.tif", "binarized.tif", "prediction_segments.gpkg", "prediction_segments.parquet",
    "prediction_extent.gpkg", "prediction_extent.parquet", "thumbnail.jpg", "chips.zip", "metadata.json",
    "probabilities.qml", "binarized.qml", "prediction_segments.qml", "prediction_extent.qml",
}  # fmt: skip


def test_a_scene_from_item_to_products(site: Site, world: World) -> None:
    (scene,) = site.register(world.items[0])
    result = site.run(scene)
    assert result.success
    assert all(site.materialized(step) == {scene} for step in STEPS)

    tile = site.load("preprocessed_tile", scene)
    assert list(tile.data_vars) == [*FEATURES, "dem", "arcticdem_data_mask", "quality_data_mask", "s2_scl"]
    assert tile["ndvi"].shape == (300, 300)
    assert tile.odc.geobox.crs.epsg == 32608
    assert float(np.isfinite(tile["slope"]).mean()) > 0.9

    probabilities = site.load("segmentation", scene)["probabilities"].values
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1

    folder = Path(metadata_of(result, "products")["path"])
    assert {path.name for path in folder.iterdir()} == DEFAULT_FILES
    vectors = site.load("polygons", scene)
    exported = gpd.read_file(folder / "prediction_segments.gpkg")
    assert len(exported) == len(vectors["segments"]) == metadata_of(result, "polygons")["objects"]
    with rasterio.open(folder / "binarized.tif") as binarized:
        assert binarized.crs.to_epsg() == 32608
        assert {"tile_id", "model_hash", "config_hash", "code_version", "item_hash"} <= binarized.tags().keys()
        assert int((binarized.read(1) == 1).sum()) == int(vectors["segments"]["npixel"].sum())
    said = json.loads((folder / "metadata.json").read_text())
    assert said["tile_id"] == scene
    wanted = {"models", "model_files", "tpi_outer_radius", "tpi_inner_radius", "patch_size", "overlap", "reflection",
              "threshold", "mask_erosion_size", "edge_erosion_size", "min_object_size", "quality_level",
              "export_date", "item_hash", "code_version", "terrain"}  # fmt: skip
    assert wanted <= said.keys()
    its_pictures_are_recorded_once_and_small(site, result)
    pages_show_what_people_want_first(result, scene)
    every_step_tells_its_costs_and_where_its_output_comes_from(site, result)


def pages_show_what_people_want_first(result: dg.ExecuteInProcessResult, scene: str) -> None:
    """Dagster's page of an asset sorts by name, upper case first; those of a partition and of a run keep the order."""
    _, _, time, *_, tile, _ = scene.split("_")
    label = f"{time[:4]}-{time[4:6]}-{time[6:8]} {tile} {scene[:3]}"
    first = {
        "raw_scene": "Location",
        "preprocessed_tile": "Features",
        "segmentation": "Histogram",
        "products": "Picture",
    }
    for step, picture in first.items():
        metadata = metadata_of(result, step)
        assert next(iter(metadata)) == picture, step
        rows = sorted(metadata)
        assert rows[0] == picture, step
        assert rows.index("Took") < min(rows.index(name) for name in ("bytes_read", "config", "provenance", "versions"))
        assert metadata["Took"].endswith("of memory")
        assert metadata["Took"].startswith(f"{metadata['seconds']:.3g} s, {metadata['cpu_seconds']:.3g} s of CPU"), step
        if step != "segmentation":
            assert metadata["Scene"] == label
    assert metadata_of(result, "preprocessed_tile")["Size"].endswith(" MB")


def its_pictures_are_recorded_once_and_small(site: Site, result: dg.ExecuteInProcessResult) -> None:
    pictures = {"raw_scene": "Location", "preprocessed_tile": "Features", "segmentation": "Histogram",
                "products": "Picture"}  # fmt: skip
    log = [entry.to_json() for entry in site.instance.all_logs(result.run_id)]
    for step, name in pictures.items():
        picture = metadata_of(result, step)[name]
        assert picture.startswith("![](data:image/webp;base64,")
        assert sum(picture in event for event in log) == 1, step
    assert sum(len(event) for event in log) < 400_000, "as the README states"


def test_a_scene_across_the_antimeridian_has_trends_on_both_sides(
    new_site: Callable[..., Site], copied_item: Callable[..., Path], tmp_path: Path
) -> None:
    path = copied_item("S2B_MSIL2A_20230715T202849_N0509_R114_T01WCS_20230715T230000")
    x, y = Transformer.from_crs(4326, 32601, always_xy=True).transform(180, 69)
    left, top = round(x, -1) - 1500, round(y, -1) + 1500
    scene_grid = GeoBox((300, 300), Affine(10, 0, left, 0, -10, top), "EPSG:32601")
    item = json.loads(path.read_text())
    for asset in item["assets"].values():
        with rasterio.open(path.parent / asset["href"], "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
            grid = scene_grid.zoom_to(file.shape)
            file.crs, file.transform = "EPSG:32601", grid.affine
        asset |= {"proj:code": "EPSG:32601", "proj:transform": list(grid.affine)[:6]}
        asset |= {"proj:bbox": list(grid.boundingbox.bbox)} if "proj:bbox" in asset else {}
    west, east = shapely.box(179.9, 68.9, 180, 69.1), shapely.box(-180, 68.9, -179.9, 69.1)
    item |= {"geometry": mapping(shapely.MultiPolygon([west, east])), "bbox": [179.9, 68.9, -179.9, 69.1]}
    item["properties"]["grid:code"] = "MGRS-01WCS"
    path.write_text(json.dumps(item))

    # Around the globe: 100 at 180 degrees, falling by 10 for each 0.01 degrees to the west and to the east.
    first, height, width = round(20.9 / RESOLUTION), round(0.2 / RESOLUTION), math.ceil(360 / RESOLUTION)
    with rasterio.open(
        tmp_path / "trends.tif", "w", driver="GTiff", width=width, height=height, count=3, dtype="uint8", tiled=True,
        crs="EPSG:4326", transform=Affine(RESOLUTION, 0, -180, 0, -RESOLUTION, 90 - first * RESOLUTION), sparse_ok=True,
    ) as raster:  # fmt: skip
        for start in (0, width - 512):
            lon = (np.arange(start, start + 512) + 0.5) * RESOLUTION
            values = np.rint(100 - 1000 * np.minimum(lon, 360 - lon)).clip(1)
            band = np.broadcast_to(values.astype("uint8"), (3, height, 512))
            raster.write(band, window=Window(start, 0, 512, height))

    site = new_site(auxiliary=("tcvis",), tcvis=str(tmp_path / "trends.tif"))
    (scene,) = site.register(path)
    result = site.run(scene, "raw_scene", "auxiliary", "preprocessed_tile")
    assert result.success, reason(result)
    tile = site.load("preprocessed_tile", scene)
    assert tile.odc.geobox == scene_grid
    columns, rows = np.meshgrid(np.arange(300) + 0.5, np.arange(300) + 0.5)
    lon, _ = Transformer.from_crs(32601, 4326, always_xy=True).transform(*scene_grid.pix2wld(columns, rows))
    assert lon.min() < -179.9
    assert lon.max() > 179.9
    for band in TCVIS:
        np.testing.assert_allclose(tile[band].values, 100 - 1000 * (180 - np.abs(lon)), atol=1.5)


def every_step_tells_its_costs_and_where_its_output_comes_from(site: Site, result: dg.ExecuteInProcessResult) -> None:
    said = {step: metadata_of(result, step) for step in STEPS}
    for step, metadata in said.items():
        assert 0 < metadata["seconds"] < 600, step
        assert metadata["cpu_seconds"] > 0
        assert metadata["peak_memory"] > 100 * 2**20
        assert {"dagster", "torch", "rasterio"} <= metadata["versions"].keys()
        assert {"code_version", "data_version", "parameters", "inputs"} <= metadata["provenance"].keys()
    assert said["segmentation"]["config"] == {**SegmentationConfig().model_dump(), **SMALL_PATCHES}, (
        "also what is not set"
    )
    for step, read in (("preprocessed_tile", "raw_scene"), ("segmentation", "preprocessed_tile"),
                       ("polygons", "segmentation"), ("products", "polygons")):  # fmt: skip
        assert said[step]["provenance"]["inputs"][read] == said[read]["provenance"]["data_version"]
    rows = {row["asset"]: row for row in step_rows(site.instance, result.dagster_run)}
    for step in STEPS:
        row = rows[SENTINEL2.key(step).to_user_string()]
        assert (row["result"], row["within"]) == ("ok", None)
        assert row["cpu_seconds"] == said[step]["cpu_seconds"]
    assert rows["aux/arcticdem_chunk"]["within"] == "sentinel2/auxiliary"


def test_chunks_that_a_scene_needed_are_recorded_each(site: Site, world: World) -> None:
    (scene,) = site.register(world.items[0])
    result = site.run(scene, "raw_scene", "auxiliary")
    said = metadata_of(result, "auxiliary")
    for layer, key in CHUNK_KEYS.items():
        chunks = set(said[layer]["chunks"])
        assert chunks
        assert site.instance.get_materialized_partitions(key) == chunks
        assert set(site.instance.get_dynamic_partitions(f"{layer}_chunk")) == chunks
        assert said[layer]["filled"] == len(chunks)
    again = metadata_of(site.run(scene, "auxiliary"), "auxiliary")
    assert all(again[layer]["filled"] == 0 for layer in CHUNK_KEYS)


def test_chunks_filled_but_never_recorded_are_recorded_by_the_next_scene(
    site: Site, new_site: Callable[..., Site], world: World
) -> None:
    (scene,) = site.register(world.items[0])
    site.run(scene, "raw_scene", "auxiliary")
    other = new_site("other").using(store=site.settings.store)  # an instance that has seen nothing
    other.register(world.items[0])
    said = metadata_of(other.run(scene, "auxiliary"), "auxiliary")
    assert said["arcticdem"]["filled"] == 0
    chunks = set(said["arcticdem"]["chunks"])
    assert other.instance.get_materialized_partitions(CHUNK_KEYS["arcticdem"]) == chunks


def _family_and_scene(site: Site, scene: str):
    return SENTINEL2, site.resource("scenes").scene(SENTINEL2, scene)


def test_only_missing_bands_are_fetched_and_force_fetches_again(site: Site, world: World) -> None:
    (scene,) = site.register(world.items[0])
    first = metadata_of(site.run(scene, "raw_scene"), "raw_scene")
    assert set(first["fetched"]) == {"blue", "green", "red", "nir", "s2_scl"}
    assert metadata_of(site.run(scene, "raw_scene"), "raw_scene")["fetched"] == []

    place = site.place("raw", "cdse", scene)
    contents = dict(place.require().contents)
    kept = {name: version for name, version in contents.items() if name != "nir"}
    with place.new_version() as version:  # as if the near infrared had never been asked for
        place.publish(version, kept, place.require().metadata)
    assert metadata_of(site.run(scene, "raw_scene"), "raw_scene")["fetched"] == ["nir"]
    after = place.require().contents
    for name, old in kept.items():  # the new version has them, without a copy
        files = [place.location.path / version / name / "c/0/0" for version in (old, after[name])]
        assert files[0].samefile(files[1])
    assert set(xr.open_zarr(place.current_url()).data_vars) == set(contents)

    forced = metadata_of(site.run(scene, "raw_scene", raw_scene={"force": True}), "raw_scene")
    assert set(forced["fetched"]) == set(first["fetched"])
    assert set(place.require().contents.values()).isdisjoint(after.values())


def test_a_coarser_band_asked_for_later_comes_on_the_same_grid(site: Site, copied_item: Callable[..., Path]) -> None:
    path = copied_item()
    item = json.loads(path.read_text())
    scl = item["assets"]["SCL_20m"]
    with rasterio.open(path.parent / scl["href"]) as source:
        profile = source.profile
    numbers = np.random.default_rng(5).integers(1, 9000, (profile["height"], profile["width"]), "uint16")
    with rasterio.open(path.parent / "B05_20m.tif", "w", **{**profile, "dtype": "uint16"}) as target:
        target.write(numbers, 1)
    red = {name: item["assets"]["B04_10m"][name] for name in ("raster:scale", "raster:offset", "nodata")}
    item["assets"]["B05_20m"] = {**scl, **red, "href": "./B05_20m.tif", "data_type": "uint16"}
    path.write_text(json.dumps(item))
    (scene,) = site.register(path)
    assert "rededge071" not in metadata_of(site.run(scene, "raw_scene"), "raw_scene")["fetched"]
    said = metadata_of(site.run(scene, "raw_scene", raw_scene={"bands": "all"}), "raw_scene")
    assert said["fetched"] == ["rededge071"]
    raw = read_tile(site.place("raw", "cdse", scene), decode=False)
    assert raw.odc.geobox.resolution.x == 10
    np.testing.assert_array_equal(raw["rededge071"].values, np.kron(numbers, np.ones((2, 2), "uint16")))


def test_another_item_of_the_same_id_is_fetched_anew(
    site: Site, world: World, copied_item: Callable[..., Path]
) -> None:
    (scene,) = site.register(world.items[0])
    site.run(scene, "raw_scene")
    item = copied_item()
    site.register(item)  # the same id, but other files
    raw = site.resource("raw")
    place = raw.place(_family_and_scene(site, scene)[1])
    before = place.require().metadata["provenance"]["data_version"]
    said = metadata_of(site.run(scene, "raw_scene"), "raw_scene")
    assert set(said["fetched"]) == {"blue", "green", "red", "nir", "s2_scl"}
    assert place.require().metadata["provenance"]["data_version"] != before


def test_the_raw_store_can_be_switched_off(site: Site, new_site: Callable[..., Site], world: World) -> None:
    (scene,) = site.register(world.items[0])
    assert site.run(scene).success
    without = new_site("without", raw_store=False)
    without.register(world.items[0])
    result = without.run(scene)
    assert result.success
    assert metadata_of(result, "raw_scene")["stored"] is False
    assert not (Path(without.settings.store) / "raw").exists()
    stored, read = (s.load("preprocessed_tile", scene) for s in (site, without))
    for name in stored.data_vars:
        np.testing.assert_array_equal(stored[name].values, read[name].values)


def test_without_auxiliary_layers(new_site: Callable[..., Site], world: World) -> None:
    site = new_site(auxiliary=(), arcticdem="no-such-catalog.json", tcvis="no-such-raster-{vintage}.tif")
    (scene,) = site.register(world.items[0])
    result = site.run(scene)
    assert result.success
    tile = site.load("preprocessed_tile", scene)
    assert bool(np.isnan(tile["slope"]).all())
    assert all(int(tile[name].max()) == 0 for name in TCVIS)
    assert bool(np.isfinite(tile["ndvi"]).all())
    (check,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "auxiliary_coverage"]
    assert not check.passed
    assert "switched off" in (check.description or "")


def test_a_changed_parameter_changes_the_data_version(site: Site, world: World) -> None:
    (scene,) = site.register(world.items[0])

    def versions(**config) -> dict[str, str]:
        result = site.run(scene, "raw_scene", "auxiliary", "preprocessed_tile", "segmentation", **config)
        assert result.success
        return {
            "/".join(e.asset_key.path): e.materialization.tags["dagster/data_version"]
            for e in result.get_asset_materialization_events()
            if e.asset_key.path[0] == "sentinel2"
        }

    first, same = versions(), versions()
    assert first == same
    other = versions(preprocessed_tile={"terrain": "physical"})
    changed = {key for key in first if first[key] != other[key]}
    assert changed == {"sentinel2/preprocessed_tile", "sentinel2/segmentation"}


def test_products_are_chosen_by_config(site: Site, world: World) -> None:
    (scene,) = site.register(world.items[0])
    chosen = ["optical", "dem", "tcvis", "hillshade", "polygonized"]
    result = site.run(
        scene,
        segmentation={**SMALL_PATCHES, "keep_models": True},
        products={"products": chosen, "write_model_outputs": True},
    )
    assert result.success
    names = {path.name for path in Path(metadata_of(result, "products")["path"]).iterdir()}
    styles = {f"{name.partition('.')[0]}.qml" for name in names}
    assert names - styles == {
        "optical.tif", "dem.tif", "tcvis.tif", "hillshade.tif",
        "prediction_segments.gpkg", "prediction_segments.parquet",
        "prediction_segments-demo.gpkg", "prediction_segments-demo.parquet",
    }  # fmt: skip
    assert styles < names
    said = reason(site.run(scene, "products", products={"products": ["probabilites"]}))
    assert "probabilites" in said
    assert "probabilities" in said


def test_steps_downstream_of_nothing_say_what_to_do(site: Site, world: World) -> None:
    (scene,) = site.register(world.items[0])
    assert "nothing has been published" in reason(site.run(scene, "segmentation"))
    with pytest.raises((NotReadableError, dg.Failure)):
        site.load("preprocessed_tile", scene)


def test_the_quality_of_scene_classes_is_a_table_in_config(site: Site, world: World) -> None:
    clouded = world.items[1]
    (scene,) = site.register(clouded)
    site.run(scene, "raw_scene", "auxiliary")
    assert site.run(scene, "preprocessed_tile").success
    tile = site.load("preprocessed_tile", scene)
    cirrus = tile["s2_scl"].values == 10
    assert cirrus.any()
    assert set(np.unique(tile["quality_data_mask"].values[cirrus])) == {2}
    assert site.run(scene, "preprocessed_tile", preprocessed_tile={"quality": {"10": 1}}).success
    assert set(np.unique(site.load("preprocessed_tile", scene)["quality_data_mask"].values[cirrus])) == {1}
    assert "expected classes of 0, 1, 2" in reason(
        site.run(scene, "preprocessed_tile", preprocessed_tile={"quality": {"12": 1}})
    )


def test_a_wider_tpi_than_was_prepared_for_says_what_to_do(site: Site, world: World) -> None:
    (scene,) = site.register(world.items[0])
    site.run(scene, "raw_scene", "auxiliary")
    wide = {"tpi_outer_radius": 9000.0}
    said = reason(site.run(scene, "preprocessed_tile", preprocessed_tile=wide))
    assert "arcticdem_10m" in said
    assert "tpi_outer_radius 9000" in said


def test_an_ensemble_of_both_checkpoint_formats_keeps_each_model_apart(
    new_site: Callable[..., Site], world: World, shared: Path
) -> None:
    reference = shared / "reference"
    site = new_site(
        models=(
            f"tcvis={reference / 'small_tcvis_old_format.pt'}",
            f"notcvis={reference / 'small_notcvis_lightning.ckpt'}",
        )
    )
    (scene,) = site.register(world.items[0])
    kept = {**SMALL_PATCHES, "keep_models": True}
    result = site.run(scene, segmentation=kept, products={"products": ["probabilities"], "write_model_outputs": True})
    assert result.success, reason(result)
    bands = site.load("segmentation", scene)
    assert list(bands.data_vars) == ["probabilities", "probabilities-tcvis", "probabilities-notcvis"]
    mean = (bands["probabilities-tcvis"].values + bands["probabilities-notcvis"].values) / 2
    np.testing.assert_allclose(bands["probabilities"].values, mean, atol=1.1e-4)  # each is stored to half of 0.0001
    assert set(site.load("polygons", scene)) == {"segments", "extent", "clear", "segments-tcvis", "segments-notcvis"}
    names = {path.name for path in Path(metadata_of(result, "products")["path"]).iterdir()}
    assert {name for name in names if name.endswith(".tif")} == {
        "probabilities.tif",
        "probabilities-tcvis.tif",
        "probabilities-notcvis.tif",
    }


def test_only_layers_that_the_models_need_are_filled(new_site: Callable[..., Site], world: World, shared: Path) -> None:
    site = new_site(models=(str(shared / "reference" / "small_notcvis_lightning.ckpt"),), tcvis="nowhere")
    (scene,) = site.register(world.items[0])
    result = site.run(scene)
    assert result.success, reason(result)
    assert site.instance.get_materialized_partitions(CHUNK_KEYS["arcticdem"])
    assert not site.instance.get_materialized_partitions(CHUNK_KEYS["tcvis"])

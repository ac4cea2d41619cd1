"""Checks and pictures on a finished chain: all is well there; each check fails on a store damaged for it."""

import base64
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import numpy as np
import pytest
import xarray as xr
from PIL import Image
from shapely.affinity import translate
from shapely.geometry import Polygon

from darts_assets.demo import World
from darts_assets.orchestration.core.multi_partition import materialize_each
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from darts_assets.orchestration.scene_chain.polygons import EXTENT, SEGMENTS
from darts_assets.orchestration.scene_chain.products import PREDICTION_EXTENT, PREDICTION_SEGMENTS
from darts_assets.orchestration.scene_chain.segmentation import require_valid
from darts_assets.settings import Settings
from darts_assets.stores.tiles import read_tile, write_tile
from darts_assets.stores.vectors import read_vectors, write_vectors
from darts_assets.tiles import TileStream, geobox_of
from tests.e2e.harness import DEMO_MODEL, QUIET, Site, metadata_of, reason

BLOCKING = {"bands_complete", "feature_ranges", "probabilities_valid", "geometries_valid"}
ALL = BLOCKING | {
    "scene_coverage", "auxiliary_coverage", "probabilities_plausible", "scene_was_seen", "detections_are_clear",
    "small_slumps_are_kept",
}  # fmt: skip


class Finished:
    """A site whose scenes are done: the first is clear, the second is clouded and lacks a corner."""

    def __init__(self, site: Site, results: dict[str, dg.ExecuteInProcessResult]) -> None:
        self.site, self.results = site, results
        self.clear = next(iter(results))
        self.in_order = site.instance.get_dynamic_partitions("sentinel2_scene")  # as ranges of partitions count them


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "dagster").mkdir()
    (folder / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    instance = dg.DagsterInstance.from_config(str(folder / "dagster"))
    sources = {"arcticdem": str(world.arcticdem), "tcvis": world.tcvis, "models": (DEMO_MODEL,)}
    settings = Settings(store=str(folder / "store"), **sources)
    site = Site(folder, settings, instance)
    site.register(*world.items)
    results = {path.stem: site.run(path.stem) for path in world.items}
    assert [reason(result) for result in results.values() if not result.success] == []
    yield Finished(site, results)
    instance.dispose()


@pytest.fixture
def damaged(finished: Finished, tmp_path: Path) -> Site:
    """The same site, with a copy of its store."""
    shutil.copytree(finished.site.settings.store, tmp_path / "store")
    return finished.site.using(store=str(tmp_path / "store"))


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def check(site: Site, step: str, *scenes: str, **config: float) -> dg.ExecuteInProcessResult:
    """Evaluate the checks of a step, and nothing else."""
    selection = dg.AssetSelection.checks_for_assets(SENTINEL2.key(step))
    job = dg.define_asset_job("checks", selection, config={
        **QUIET, "ops": {f"sentinel2__{step}_checks": {"config": config}},
    })  # fmt: skip
    defs = site.defs
    resolved = dg.Definitions(
        defs.assets, jobs=[job], resources=defs.resources, asset_checks=defs.asset_checks
    ).resolve_job_def("checks")
    tags = {"dagster/partition": scenes[0]} if scenes else {}
    if len(scenes) > 1:
        tags = {"dagster/asset_partition_range_start": scenes[0], "dagster/asset_partition_range_end": scenes[-1]}
    return resolved.execute_in_process(instance=site.instance, tags=tags, raise_on_error=False)


def rewrite(place: Any, change: Callable[[xr.Dataset], None], encoded: bool = False) -> None:
    """Publish a tile anew, with other values."""
    tile = read_tile(place, decode=not encoded).compute()
    change(tile)
    facts = {k: v for k, v in place.require().metadata.items() if k not in ("grid", "attrs", "coverage", "statistics")}
    stream = TileStream(geobox_of(tile), tuple(map(str, tile.data_vars)), iter([tile]), tile.attrs)
    write_tile(place, stream, metadata=facts, encoded=encoded)


def tile_place(site: Site, step: str, scene: str) -> Any:
    return site.place("tiles", "sentinel2", step, scene)


def raw_place(site: Site, scene: str) -> Any:
    return site.place("raw", "cdse", scene)


def test_all_is_well_in_the_demo(finished: Finished) -> None:
    first = finished.results[finished.clear]
    for result in finished.results.values():
        found = evaluations(result)
        assert found.keys() == ALL
        failed = {name: each.description for name, each in found.items() if not each.passed}
        # The second scene has a hole in its elevations and a detection in its clouds, and the checks tell.
        assert failed.keys() == (set() if result is first else {"auxiliary_coverage", "detections_are_clear"})
        assert result is first or failed["auxiliary_coverage"] == "arcticdem lacks 0.504 % of the scene"
        assert {name for name, each in found.items() if each.blocking} == BLOCKING
        assert {each.partition for each in found.values()} == {
            next(s for s, r in finished.results.items() if r is result)
        }


def test_checks_read_no_pixels(finished: Finished, damaged: Site) -> None:
    pixels = [path for path in Path(damaged.settings.store).rglob("*") if path.is_dir() and path.name == "c"]
    assert len(pixels) > 20
    for folder in pixels:
        shutil.rmtree(folder)
    before = evaluations(finished.results[finished.clear])
    for step in ("raw_scene", "preprocessed_tile", "segmentation", "polygons"):
        for name, each in evaluations(check(damaged, step, finished.clear)).items():
            assert (each.passed, each.description) == (True, before[name].description)


# --- each check, on data that is made to fail it ----------------------------------------------------------------------


def fails(result: dg.ExecuteInProcessResult, name: str, words: str, blocks: bool | None = None) -> None:
    """That this check alone fails, saying so; and the step with it, if it blocks."""
    found = evaluations(result)
    assert {each for each, verdict in found.items() if not verdict.passed} == {name}
    assert words in (found[name].description or "")
    blocks = name in BLOCKING if blocks is None else blocks
    assert found[name].severity == (dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN)
    assert result.success == (not blocks)


def constant(tile: xr.Dataset) -> None:
    tile["nir"][:] = 1234


def empty(tile: xr.Dataset) -> None:
    tile["green"][:] = 0


@pytest.mark.parametrize(
    ("change", "words"),
    [(constant, "band nir is 1234 in all pixels with data"), (empty, "band green has no data, but")],
)
def test_raw_bands_that_cannot_be_used(finished: Finished, damaged: Site, change: Any, words: str) -> None:
    rewrite(raw_place(damaged, finished.clear), change, encoded=True)
    result = check(damaged, "raw_scene", finished.clear)
    assert not result.success
    assert words in (evaluations(result)["bands_complete"].description or "")


def test_a_raw_band_that_is_missing_or_on_another_grid(finished: Finished, damaged: Site) -> None:
    place = raw_place(damaged, finished.clear)
    manifest = place.require()
    contents = {name: version for name, version in manifest.contents.items() if name != "red"}
    with place.new_version() as version:
        place.publish(version, contents, manifest.metadata)
    fails(check(damaged, "raw_scene", finished.clear), "bands_complete", "band red is missing")
    manifest.metadata["grid"]["shape"] = [299, 300]
    with place.new_version() as version:
        place.publish(version, contents, manifest.metadata)
    fails(check(damaged, "raw_scene", finished.clear), "bands_complete", "band nir has 300 x 300 pixels, its grid 299")


def test_little_of_a_raw_scene(finished: Finished, damaged: Site) -> None:
    def little(tile: xr.Dataset) -> None:
        for name in tile.data_vars:
            tile[name][6:] = 0

    rewrite(raw_place(damaged, finished.clear), little, encoded=True)
    fails(check(damaged, "raw_scene", finished.clear), "scene_coverage", "only 2.0 % of the scene holds data")
    fails(check(damaged, "raw_scene", finished.clear, least_coverage=0.021), "scene_coverage", "less than 2.1 %")
    assert check(damaged, "raw_scene", finished.clear, least_coverage=0.01).success
    rewrite(raw_place(damaged, finished.clear), lambda tile: tile["blue"].__setitem__(slice(1, None), 0), encoded=True)
    fails(
        check(damaged, "raw_scene", finished.clear, least_coverage=0), "scene_coverage", "blue in 0.3 %, green in 2.0 %"
    )


def steep(tile: xr.Dataset) -> None:
    tile["slope"][5, 5] = 120


def dark(tile: xr.Dataset) -> None:
    for name in ("blue", "green", "red", "nir"):
        tile[name] -= 0.5


def holed(tile: xr.Dataset) -> None:
    tile["ndvi"][:30] = np.nan


def flat(tile: xr.Dataset) -> None:
    tile["curvature"][:] = 0


@pytest.mark.parametrize(
    ("change", "words", "blocks"),
    [
        (steep, "slope ranges from", False),
        (dark, "the median of blue is -0.", True),
        (holed, "ndvi has no value in 10.0 % of the pixels with red", False),
        (flat, "curvature is 0 everywhere", False),
    ],
)
def test_features_that_cannot_be_true(finished: Finished, damaged: Site, change: Any, words: str, blocks: bool) -> None:
    rewrite(tile_place(damaged, "preprocessed_tile", finished.clear), change)
    fails(check(damaged, "preprocessed_tile", finished.clear), "feature_ranges", words, blocks)
    mild = check(damaged, "preprocessed_tile", finished.clear, block_implausible=False)
    fails(mild, "feature_ranges", words, blocks=False)


def test_auxiliary_layers_with_holes(finished: Finished, damaged: Site) -> None:
    def without(tile: xr.Dataset) -> None:
        for name in ("dem", "relative_elevation", "slope", "aspect", "hillshade", "curvature"):
            tile[name][:75] = np.nan

    rewrite(tile_place(damaged, "preprocessed_tile", finished.clear), without)
    result = check(damaged, "preprocessed_tile", finished.clear)
    fails(result, "auxiliary_coverage", "arcticdem lacks 25 % of the scene")
    assert evaluations(check(damaged, "preprocessed_tile", finished.clear, missing_auxiliary=0.3))[
        "auxiliary_coverage"
    ].passed


def impossible(tile: xr.Dataset) -> None:
    tile["probabilities"][:2] += 1.5


def nothing(tile: xr.Dataset) -> None:
    tile["probabilities"][:] = np.nan


def saturated(tile: xr.Dataset) -> None:
    tile["probabilities"][:200] = 1


def blind(tile: xr.Dataset) -> None:
    tile["probabilities"][:] = 0.25


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (impossible, "probabilities_valid", "band probabilities ranges from 5e-05 to 1.5"),
        (nothing, "probabilities_valid", "has no values, but the scene has 90000 valid pixels"),
        (saturated, "probabilities_plausible", "99 % or more in"),
        (blind, "probabilities_plausible", "probabilities is 0.25 everywhere"),
    ],
)
def test_probabilities_that_cannot_be_true(
    finished: Finished, damaged: Site, change: Any, name: str, words: str
) -> None:
    rewrite(tile_place(damaged, "segmentation", finished.clear), change)
    fails(check(damaged, "segmentation", finished.clear), name, words)


BOWTIE = Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.assign(Region_ID=7), "Region_ID is not unique: 7"),
        (lambda t: t.drop(columns="npixel"), "columns are missing: npixel"),
        (lambda t: t.assign(npixel=8), "objects under 9 pixels: Region_ID 1, 2, 3 and"),
        (lambda t: t.assign(mean=60.0), "not between 0 and 1"),
        (lambda t: t.set_crs("EPSG:32609", allow_override=True), "CRS is EPSG:32609, expected EPSG:32608"),
        (lambda t: t.set_geometry(t.translate(xoff=1e5)), "outside the scene: rows 0, 1, 2 and"),
        (lambda t: t.set_geometry(t.boundary), "empty or no polygons"),
        (
            lambda t: t.set_geometry([translate(BOWTIE, *t.geometry.iloc[0].centroid.coords[0]), *t.geometry[1:]]),
            "invalid geometries: rows 0 (Self-intersection",
        ),
    ],
)
def test_polygons_that_are_not_sound(finished: Finished, damaged: Site, change: Any, words: str) -> None:
    place = damaged.place("vectors", "sentinel2", "polygons", finished.clear)
    tables = read_vectors(place)
    write_vectors(place, tables | {"segments": change(tables["segments"])}, place.require().metadata)
    fails(check(damaged, "polygons", finished.clear), "geometries_valid", words)


def test_detections_in_clouds(finished: Finished, damaged: Site) -> None:
    place = damaged.place("vectors", "sentinel2", "polygons", finished.clear)
    tables = read_vectors(place)
    segments = tables["segments"].assign(clear_fraction=1.0)
    segments.loc[:11, "clear_fraction"] = 0.4
    write_vectors(place, tables | {"segments": segments}, place.require().metadata)
    result = check(damaged, "polygons", finished.clear)
    assert result.success
    fails(result, "detections_are_clear", f"12 of {len(segments)} detections lie on clouds, shadow or snow")
    fails(result, "detections_are_clear", "Region_ID 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more")
    passed = {e.check_name: e.passed for e in check(
        damaged, "polygons", finished.clear, least_clear=0.4
    ).get_asset_check_evaluations()}  # fmt: skip
    assert passed["detections_are_clear"]
    # Polygons of earlier versions.
    old = {name: tables[name].drop(columns="clear_fraction") for name in ("segments", "extent")}
    write_vectors(place, old, place.require().metadata)
    checks = check(damaged, "polygons", finished.clear).get_asset_check_evaluations()
    assert {e.check_name for e in checks if e.passed} == passed.keys()


def test_a_scene_that_was_hardly_seen(finished: Finished, damaged: Site) -> None:
    assert check(damaged, "polygons", finished.clear).success
    result = check(damaged, "polygons", finished.clear, least_extent=0.95)
    fails(result, "scene_was_seen", "% of the scene is valid and clear")
    place = damaged.place("vectors", "sentinel2", "polygons", finished.clear)
    tables = read_vectors(place)
    clouded = tables["extent"].assign(clear_fraction=0.0)
    write_vectors(place, tables | {"extent": clouded}, place.require().metadata)
    fails(check(damaged, "polygons", finished.clear), "scene_was_seen", "clouds, shadow or snow cover all of the valid")


# --- what a check that fails holds back -------------------------------------------------------------------------------


def test_a_check_that_blocks_holds_back_what_comes_after_it(finished: Finished, damaged: Site) -> None:
    rewrite(raw_place(damaged, finished.clear), constant, encoded=True)
    result = damaged.run(finished.clear, "raw_scene", "auxiliary", "preprocessed_tile")
    assert not result.success
    done = {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}
    assert done == {"raw_scene"}
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "bands_complete" in str(failure.step_failure_data.error)


def test_a_warning_holds_back_nothing(finished: Finished, damaged: Site) -> None:
    rewrite(tile_place(damaged, "segmentation", finished.clear), saturated)
    assert damaged.run(finished.clear, "polygons").success


def test_checking_several_scenes_in_a_run_judges_each(finished: Finished, damaged: Site) -> None:
    rewrite(raw_place(damaged, finished.clear), constant, encoded=True)
    result = check(damaged, "raw_scene", *finished.in_order)
    assert result.success, "nothing is held back for a neighbour"
    found = {(e.partition, e.check_name): e.passed for e in result.get_asset_check_evaluations()}
    names = ("bands_complete", "scene_coverage")
    assert found.keys() == {(scene, name) for scene in finished.in_order for name in names}
    assert {judged for judged, passed in found.items() if not passed} == {(finished.clear, "bands_complete")}


def test_without_a_partition_all_scenes_are_judged(finished: Finished, damaged: Site) -> None:
    rewrite(raw_place(damaged, finished.clear), constant, encoded=True)
    result = check(damaged, "raw_scene")
    assert result.success
    found = {(e.partition, e.check_name): e for e in result.get_asset_check_evaluations()}
    assert {scene for scene, _ in found} == {*finished.in_order, None}
    whole = found[None, "bands_complete"]
    assert (whole.passed, whole.description) == (False, "1 of 2 scenes pass")
    assert whole.metadata["failed"].value == [finished.clear]
    assert found[None, "scene_coverage"].passed
    assert not found[finished.clear, "bands_complete"].passed


def test_a_scene_that_is_not_there_takes_no_neighbour_with_it(finished: Finished, damaged: Site) -> None:
    first, second = finished.in_order
    shutil.rmtree(tile_place(damaged, "segmentation", first).location.path)
    result = check(damaged, "segmentation", first, second)
    assert not result.success
    assert {e.partition for e in result.get_asset_check_evaluations()} == {second}


def test_of_several_scenes_segmented_in_a_run_the_insane_one_fails_alone(finished: Finished, damaged: Site) -> None:
    first, second = finished.in_order
    rewrite(tile_place(damaged, "segmentation", first), impossible)
    store = damaged.resource("store")

    @dg.asset(
        key=SENTINEL2.key("segmentation"), partitions_def=SENTINEL2.partitions, output_required=False,
        backfill_policy=dg.BackfillPolicy.multi_run(4),
    )  # fmt: skip
    def segmentation(context: dg.AssetExecutionContext):
        def segmented(scene: str) -> dg.MaterializeResult:
            require_valid(context, SENTINEL2, store, scene)
            return dg.MaterializeResult(data_version=dg.DataVersion("one"))

        yield from materialize_each(context, segmented)

    result = dg.materialize(
        [segmentation], instance=damaged.instance, run_config=QUIET, raise_on_error=False,
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": second},
    )  # fmt: skip
    assert not result.success
    assert [e.partition for e in result.get_asset_materialization_events()] == [second]
    found = {(e.partition, e.check_name): e.passed for e in result.get_asset_check_evaluations()}
    assert found[first, "probabilities_valid"] is False
    assert found[second, "probabilities_valid"] is True


# --- what people look at ----------------------------------------------------------------------------------------------

PICTURES = {
    "raw_scene": {"Location"}, "preprocessed_tile": {"Features"}, "segmentation": {"Histogram"},
    "products": {"Picture"},
}  # fmt: skip


def test_pictures_are_there_and_small(finished: Finished) -> None:
    for result in finished.results.values():
        weight, found = 0, {}
        for event in result.get_asset_materialization_events():
            step = event.asset_key.path[-1]
            for name, value in event.materialization.metadata.items():
                said = str(value.value)
                weight += len(said)
                image = re.match(r"!\[\]\(data:image/webp;base64,([^)]+)\)$", said)
                if image and step in STEPS:
                    found.setdefault(step, set()).add(name)
                    picture = Image.open(io.BytesIO(base64.b64decode(image[1])))
                    assert max(picture.size) <= 700
                    assert np.asarray(picture.convert("RGB")).std() > 10, "there is something on it"
                    assert len(image[1]) < 100_000
        assert found == PICTURES
        assert weight < 200_000, "bytes that the event log keeps of a scene, and of the chunks under it"


def test_vector_assets_have_the_columns_that_they_name(finished: Finished) -> None:
    tables = finished.site.load("polygons", finished.clear)
    for name, schema in (("segments", SEGMENTS), ("extent", EXTENT)):
        assert {c.name: c.type for c in schema.columns} == dict(tables[name].dtypes.astype(str))
        assert all(column.description for column in schema.columns)
    folder = Path(metadata_of(finished.results[finished.clear], "products")["path"])
    for stem, schema in (("prediction_segments", PREDICTION_SEGMENTS), ("prediction_extent", PREDICTION_EXTENT)):
        table = gpd.read_parquet(folder / f"{stem}.parquet")
        assert {c.name: c.type for c in schema.columns} == dict(table.dtypes.astype(str))
        assert (table["scene_id"] == finished.clear).all()
        assert table["area_m2"].between(0.99 * table.area, 1.01 * table.area).all()
        assert set(table["model"]) == {"demo"}
        assert all(column.description for column in schema.columns)
    graph = finished.site.defs.resolve_asset_graph()
    for step, segments, extent in (
        ("polygons", SEGMENTS, EXTENT),
        ("products", PREDICTION_SEGMENTS, PREDICTION_EXTENT),
    ):
        shown = graph.get(SENTINEL2.key(step)).metadata
        assert (shown["dagster/column_schema"].value, shown["extent_columns"].value) == (segments, extent)

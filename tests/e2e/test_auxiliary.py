"""Auxiliary data as its users prepare it: by area, by scenes, by chunks; what Dagster then knows of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from pyproj import CRS

from darts_assets.bands import TCVIS, AuxiliaryLayer
from darts_assets.demo import World
from tests.e2e.harness import Site, metadata_of, reason, summary

POLAR = CRS("EPSG:3413")
LAYERS: tuple[AuxiliaryLayer, ...] = ("arcticdem", "tcvis")


def outline(world: World, index: int = 0) -> gpd.GeoDataFrame:
    """The square of a scene."""
    item = json.loads(world.items[index].read_text())
    band = item["assets"]["B02_10m"]
    left, bottom, right, top = rasterio.open(world.items[index].parent / band["href"]).bounds
    return gpd.GeoDataFrame(geometry=[shapely.box(left, bottom, right, top)], crs=band["proj:code"])


@pytest.fixture
def area(world: World, tmp_path: Path) -> Path:
    """The square of the clear scene, in a GeoPackage of another CRS."""
    path = tmp_path / "area.gpkg"
    outline(world).to_crs("EPSG:3995").to_file(path)
    return path


def registered(site: Site, layer: AuxiliaryLayer) -> set[str]:
    return set(site.instance.get_dynamic_partitions(f"{layer}_chunk"))


# --- what is prepared -------------------------------------------------------------------------------------------------


def test_an_area_is_registered_filled_and_serves_its_scene_offline(site: Site, world: World, area: Path) -> None:
    result = site.prepare(aoi=str(area), years=[2023])
    assert result.success
    for layer, cube in (("arcticdem", "arcticdem_10m"), ("tcvis", "tcvis_2024")):
        assert site.chunks(layer) == registered(site, layer)
        row = summary(result)[cube]
        assert row["needed"] == row["missing"] == row["filled_now"] == len(site.chunks(layer)) > 0
        assert row["bytes_now"] > 0
    (scene,) = site.register(world.items[0])
    said = metadata_of(site.using(offline=True).run(scene, "raw_scene", "auxiliary"), "auxiliary")
    for layer in LAYERS:
        assert said[layer]["filled"] == 0
        assert set(said[layer]["chunks"]) <= site.chunks(layer)
    assert site.using(offline=True).run(scene, "preprocessed_tile").success


def test_what_is_there_is_not_fetched_again(site: Site, area: Path) -> None:
    site.prepare(aoi=str(area))
    again = site.using(arcticdem="gone.json", tcvis="gone-{vintage}.tif").prepare(aoi=str(area))
    assert again.success
    assert {row["filled_now"] for row in summary(again).values()} == {0}
    assert site.recorded(again, "arcticdem") == {}


def test_a_dry_run_counts_and_leaves_no_trace(site: Site, area: Path) -> None:
    result = site.prepare(aoi=str(area), dry_run=True)
    assert result.success
    rows = summary(result, "choose_chunks")
    assert rows.keys() == {"arcticdem_10m", "tcvis_2024"}
    assert all(row["missing"] == row["needed"] > 0 for row in rows.values())
    assert registered(site, "arcticdem") == registered(site, "tcvis") == set()
    assert not (Path(site.settings.store) / "aux").exists()
    site.prepare(aoi=str(area), layers=["arcticdem"])
    rows = summary(site.prepare(aoi=str(area), dry_run=True), "choose_chunks")
    assert rows["arcticdem_10m"]["missing"] == 0
    assert rows["tcvis_2024"]["missing"] > 0


@pytest.mark.parametrize("fetched", [False, True], ids=["registered", "fetched"])
def test_scenes_need_exactly_what_their_auxiliary_fills(
    site: Site, new_site: Callable[..., Site], world: World, fetched: bool
) -> None:
    scenes = site.register(*world.items)
    if fetched:
        for scene in scenes:
            site.run(scene, "raw_scene")
    assert site.prepare(scenes=scenes, tpi_outer_radius=500).success
    other = new_site("other")
    for scene in other.register(*world.items):
        assert other.run(scene, "raw_scene", "auxiliary", auxiliary={"tpi_outer_radius": 500.0}).success
    for layer in LAYERS:
        assert site.chunks(layer) == other.chunks(layer)
    vintages = {key.partition("-")[0] for key in site.chunks("tcvis")}
    assert vintages == {"2024"}, "the scenes are of 2022 and 2023"


def test_years_and_the_resolution_choose_the_cubes(site: Site, area: Path) -> None:
    rows = summary(
        site.prepare(aoi=str(area), years=[2017, 2018, 2021], arcticdem_resolution=32, dry_run=True), "choose_chunks"
    )
    assert rows.keys() == {"arcticdem_32m", "tcvis_2019", "tcvis_2022"}
    rows = summary(site.prepare(aoi=str(area), vintages=[2020], layers=["tcvis"], dry_run=True), "choose_chunks")
    assert rows.keys() == {"tcvis_2020"}
    coarse = site.using(arcticdem_resolution=2).prepare(aoi=str(area), layers=["arcticdem"], dry_run=True)
    assert summary(coarse, "choose_chunks").keys() == {"arcticdem_2m"}


def test_chunks_by_key_and_by_block(site: Site, world: World) -> None:
    scenes = site.register(world.items[0])
    grid = site.resource("cubes").arcticdem_cube(10).spec.grid
    site.prepare(scenes=scenes, layers=["arcticdem"])
    row, col = grid.parse(min(site.chunks("arcticdem")))
    block = [grid.key(r, c) for r in range(row - 2, row + 2) for c in range(col - 1, col + 2)]
    for first, last in ((block[0], block[-1]), (block[2], block[-3]), (block[-1], block[0])):
        rows = summary(site.prepare(chunks=[f"{first}...{last}"], dry_run=True), "choose_chunks")
        assert rows["arcticdem_10m"]["needed"] == len(block)
    result = site.prepare(chunks=[f"{block[0]}...{block[-1]}", block[0], "2024-r0076-c0163"])
    assert result.success
    assert site.chunks("arcticdem") >= set(block)
    assert site.chunks("tcvis") == {"2024-r0076-c0163"}


def test_chunks_of_the_demo_world_are_what_its_rasters_hold(site: Site, world: World, area: Path) -> None:
    site.prepare(aoi=str(area), layers=["tcvis"])
    grid = site.resource("cubes").tcvis_cube(2024).spec.grid
    (scene,) = outline(world).to_crs(4326).geometry
    col, row = (int(n) // 1024 for n in grid.geobox.wld2pix(scene.centroid.x, scene.centroid.y))
    box = grid.chunk_geobox(row, col)
    window = site.resource("cubes").tcvis_cube(2024).window(box)
    with rasterio.open(world.tcvis.replace("{vintage}", "2024")) as source:
        part = rasterio.windows.from_bounds(*box.boundingbox, source.transform).round_offsets().round_lengths()
        expected = source.read(window=part, boundless=True, fill_value=0)
    assert expected.any()
    for name, values in zip(TCVIS, expected, strict=True):
        np.testing.assert_array_equal(window[name].values, values)


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_each_chunk_says_what_it_is_and_each_batch_how_far_the_cube_is(site: Site, area: Path) -> None:
    result = site.prepare(aoi=str(area), chunks_per_step=2)
    said = site.recorded(result, "arcticdem")
    assert said.keys() == site.chunks("arcticdem")
    full = max(said.values(), key=lambda facts: facts["fill_fraction"])
    assert 0 < full["fill_fraction"] <= 1
    assert full["sources"]
    assert full["bytes"] > 1000
    assert full["cube"] == "arcticdem_10m"
    assert full["snapshot"]
    for facts in (*said.values(), *site.recorded(result, "tcvis").values()):
        assert re.fullmatch(r"!\[\]\(data:image/webp;base64,[\w+/=]+\)", facts["Picture"])
        assert len(facts["Picture"]) < 8000, "the event log keeps one for each of many thousand chunks"
    batches = [e.step_key for e in result.all_events if e.is_step_success and e.step_key.startswith("fill_arcticdem")]
    assert len(batches) == -(-len(said) // 2)
    maps = [facts["coverage"] for facts in said.values() if "coverage" in facts]
    assert len(maps) == len(batches)
    assert maps[0].startswith("![](data:image/webp;base64,")
    left = [int(re.search(r"red: (\d+) missing", text)[1]) for text in maps]
    assert left == [max(len(said) - 2 * done, 0) for done in range(1, len(batches) + 1)]
    last = [e for e in result.all_events if e.is_successful_output and e.step_key == "sum_up"]
    (metadata,) = [e.step_output_data.metadata for e in last]
    assert "red: 0 missing" in metadata["coverage_arcticdem_10m"].value
    assert {"coverage_arcticdem_10m", "coverage_tcvis_2024"} < metadata.keys()


def test_steps_hand_on_through_the_store_and_leave_nothing_there(site: Site, area: Path) -> None:
    site.prepare(aoi=str(area), chunks_per_step=1)
    steps = Path(site.settings.store) / "steps"
    assert list(steps.rglob("*.json")) == []
    assert steps.exists(), "what steps hand on must reach pods: not through Dagster's own folder"


def test_chunks_that_nobody_recorded_are_recorded(site: Site, new_site: Callable[..., Site], area: Path) -> None:
    site.prepare(aoi=str(area))
    other = new_site("other").using(store=site.settings.store)  # an instance that has seen nothing
    result = other.using(offline=True).prepare(aoi=str(area))
    assert result.success
    for layer in LAYERS:
        assert other.chunks(layer) == site.chunks(layer)
        assert all(facts["already_filled"] for facts in other.recorded(result, layer).values())


def test_a_chunk_is_materialized_by_itself(site: Site, area: Path) -> None:
    cubes = site.resource("cubes")
    key = cubes.arcticdem_cube(10).spec.grid.chunks_under(gpd.read_file(area).to_crs(3413).centroid[0], POLAR)[0]
    site.instance.add_dynamic_partitions("arcticdem_chunk", [key, "10m-rxx-c1", "2024-r0001-c0001"])
    result = site.materialize_chunks("arcticdem", key)
    assert result.success
    assert cubes.arcticdem_cube(10).missing([key]) == []
    assert site.recorded(result, "arcticdem")[key]["fill_fraction"] > 0
    again = site.materialize_chunks("arcticdem", key)
    assert site.recorded(again, "arcticdem")[key]["already_filled"], "who asks for a chunk gets its record"
    for wrong in ("10m-rxx-c1", "2024-r0001-c0001"):
        assert f"'{wrong}' is not a chunk of" in reason(site.materialize_chunks("arcticdem", wrong))
    assert site.chunks("arcticdem") == {key}

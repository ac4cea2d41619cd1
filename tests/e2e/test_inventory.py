"""The inventory as an asset: from the polygons in the store to sites of a year, and slumps through the years."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import pytest

from darts_assets.demo import World
from darts_assets.inventory.table_schemas import SITE_COLUMNS, SLUMP_COLUMNS
from darts_assets.orchestration.inventory.assets import RTS, SLUMPS, build_inventory
from darts_assets.orchestration.inventory.review_report import REVIEW_REPORT, build_review_report
from darts_assets.review.review_columns import REVIEW_COLUMNS
from darts_assets.review.verdict_store import VerdictStore
from darts_assets.settings import Settings
from darts_assets.stores.vectors import read_table, write_vectors
from tests.e2e.asset_runs import QUIET, failure, warnings
from tests.e2e.harness import DEMO_MODEL, Site, reason
from tests.inventory.planted import Planted, square
from tests.review.verdict_samples import about


def publish(site: Site, world: World, scene: Planted) -> str:
    """Register a scene and publish its polygons, as its chain would have done."""
    item = json.loads(world.items[0].read_text()) | {"id": scene.id}
    item["properties"]["datetime"] = scene.time.isoformat()
    path = site.folder / f"{scene.id}.json"
    path.write_text(json.dumps(item))
    site.register(path)
    tables = {"segments": scene.segments(), "extent": scene.valid_area()}
    if scene.clouds is not None:  # otherwise, as earlier versions have written it
        tables["clear"] = scene.observed()
    place = site.place("vectors", "sentinel2", "polygons", scene.id)
    write_vectors(place, tables, {"provenance": {"data_version": scene.version}})
    return scene.id


def run(site: Site, key: dg.AssetKey, year: int | None = None, **config: Any) -> dg.ExecuteInProcessResult:
    """Materialize the sites of a year, or slumps."""
    (asset,) = [asset for asset in [*build_inventory(), *build_review_report()] if asset.key == key]
    resources = {name: site.resource(name) for name in ("store", "scenes")}
    ops = {"__".join(key.path): {"config": config}}
    return dg.materialize(
        [asset], partition_key=year and str(year), instance=site.instance, resources=resources,
        run_config={**QUIET, "ops": ops}, raise_on_error=False,
    )  # fmt: skip


def metadata_of(site: Site, key: dg.AssetKey, year: int | None = None, **config: Any) -> dict[str, Any]:
    """The metadata of the materialization; an asset that fails fails the test."""
    result = run(site, key, year, **config)
    assert result.success, failure(result)
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def table(site: Site, *place: str, name: str) -> gpd.GeoDataFrame:
    """A published table."""
    published = site.place("inventory", *place)
    return gpd.read_parquet(published.location.path / published.require().contents[name] / name)


def sites(site: Site, year: int = 2023) -> gpd.GeoDataFrame:
    return table(site, "rts", str(year), name=f"rts_{year}.parquet")


def test_scenes_that_come_change_and_go(site: Site, world: World) -> None:
    def update(**config: Any) -> dict[str, Any]:
        return metadata_of(site, RTS, 2023, **config)

    here, there = square(0, 0), square(0, 3000)
    first, second = Planted(180, [here, there]), Planted(190, [here], square(-1000, -1000, 2500))
    for scene in (first, second, Planted(200, [here], year=2022)):
        publish(site, world, scene)
    metadata = update()
    assert (metadata["scenes"], metadata["sites"], metadata["sites_worked_out"]) == (2, 2, 2)
    assert list(sites(site)["seen"]) == [2, 1]
    assert list(sites(site)["observable"]) == [2, 1]
    # The map can be looked at.
    assert metadata["Map"].startswith("![](data:image/webp;base64,")
    assert len(metadata["Map"]) < 40_000
    assert [dict(record.data) for record in metadata["seen_of_observable"].records] == [
        {"seen": 1, "observable": 1, "sites": 1}, {"seen": 2, "observable": 2, "sites": 1}
    ]  # fmt: skip

    publish(site, world, third := Planted(210, [there], square(-500, 2500, 2000)))
    metadata = update()
    assert (metadata["scenes_added"], metadata["sites_worked_out"], metadata["sites_kept"]) == (1, 1, 1)
    assert list(sites(site)["seen"]) == [2, 2]
    publish(site, world, Planted(210, [], third.extent, version="2"))
    metadata = update()
    assert (metadata["scenes_changed"], metadata["sites_worked_out"]) == (1, 1)
    assert list(sites(site)["observable"]) == [2, 2]
    shutil.rmtree(site.place("vectors", "sentinel2", "polygons", third.id).location.path)
    metadata = update()
    assert (metadata["scenes_removed"], metadata["sites_worked_out"]) == (1, 1)
    before = sites(site)
    assert update()["sites_worked_out"] == 0
    assert update(rebuild=True)["sites_worked_out"] == 2
    assert sites(site).to_wkb().equals(before.to_wkb())
    latest = site.place("inventory", "rts", "2023").location.path / "latest"
    assert gpd.read_parquet(latest / "rts_2023.parquet").to_wkb().equals(before.to_wkb())
    # Another config has another outcome, of all sites.
    assert update(outline="union")["sites_worked_out"] == 2
    assert update(families=["planet"])["scenes"] == 0


def test_slumps_keep_their_ids_through_the_years(site: Site, world: World) -> None:
    for year in (2020, 2022, 2023):
        publish(site, world, Planted(180, [square(0, 0, 100 + year - 2020)], year=year))
        metadata_of(site, RTS, year)
    empty, gone = (publish(site, world, Planted(day, [], year=2021)) for day in (180, 190))
    metadata_of(site, RTS, 2021)
    # Processed again since, and no longer in the store.
    publish(site, world, Planted(180, [], year=2021, version="2"))
    shutil.rmtree(site.place("vectors", "sentinel2", "polygons", gone).location.path)
    result = run(site, SLUMPS)
    (warning,) = warnings(site.instance, result)
    assert gone in warning
    assert empty not in warning
    (event,) = result.get_asset_materialization_events()
    metadata = {name: value.value for name, value in event.materialization.metadata.items()}
    assert metadata["scenes_without_polygons"] == 1
    assert metadata["years"] == [2020, 2021, 2022, 2023]
    assert metadata["dagster/row_count"] == 1
    (slump,) = table(site, "slumps", name="rts_slumps.parquet").itertuples()
    assert (slump.first_year, slump.last_year, slump.years_seen) == (2020, 2023, 3)
    assert (slump.seen, slump.observable, slump.years_observable) == (3, 4, 4)
    every = table(site, "slumps", name="rts_sites.parquet")
    assert list(every["event"]) == ["new", "continued", "continued"]
    assert set(every["slump_id"]) == {slump.slump_id}


def test_clouded_scenes_observe_nothing_and_those_of_earlier_versions_all_that_is_valid(
    site: Site, world: World
) -> None:
    slump, sky = square(0, 0), square(-5000, -5000, 10_000)
    publish(site, world, Planted(180, [slump], clouds=square(2000, 2000)))
    publish(site, world, Planted(181, [slump], clouds=sky))
    publish(site, world, Planted(182, [], clouds=sky))
    publish(site, world, Planted(183, []))
    publish(site, world, Planted(180, [], clouds=sky, year=2024))
    publish(site, world, Planted(181, [], clouds=square(2000, 2000), year=2024))
    metadata = metadata_of(site, RTS, 2023)
    assert (metadata["clouded_detections"], metadata["scenes_without_valid_area"]) == (1, 2)
    assert (list(sites(site)["seen"]), list(sites(site)["observable"])) == ([1], [2])
    metadata_of(site, RTS, 2024)
    metadata_of(site, SLUMPS)
    (slump,) = table(site, "slumps", name="rts_slumps.parquet").itertuples()
    assert (slump.seen, slump.observable) == (1, 3)


def test_files_open_elsewhere(site: Site, world: World) -> None:
    publish(site, world, Planted(180, [square(0, 0)]))
    metadata_of(site, RTS, 2023)
    metadata_of(site, SLUMPS)
    place = site.place("inventory", "rts", "2023")
    geopackage = gpd.read_file(place.location.path / place.require().contents["rts_2023.gpkg"] / "rts_2023.gpkg")
    assert list(geopackage.columns) == [*SITE_COLUMNS, *REVIEW_COLUMNS, "geometry"]
    assert geopackage.crs.to_epsg() == 6931
    assert geopackage["site_id"].tolist() == sites(site)["site_id"].tolist()
    place = site.place("inventory", "slumps")
    slumps = gpd.read_file(place.location.path / place.require().contents["rts_slumps.gpkg"] / "rts_slumps.gpkg")
    assert list(slumps.columns) == [*SLUMP_COLUMNS, *REVIEW_COLUMNS, "geometry"]


def test_verdicts_change_only_the_judgement_and_survive_a_new_model(site: Site, world: World) -> None:
    def layer(*place: str, name: str) -> set[float]:
        published = site.place("inventory", *place)
        file = published.location.path / published.require().contents[name] / name
        return {round(area / 1e4, 2) for area in gpd.read_file(file).area}

    def versions() -> list[str]:
        places = site.place("inventory", "rts", "2023"), site.place("inventory", "slumps")
        return [place.require().metadata["provenance"]["data_version"] for place in places]

    slump, stone = square(0, 0, 200), square(1000, 0, 100)
    publish(site, world, Planted(180, [slump, stone]))
    metadata_of(site, RTS, 2023)
    assert metadata_of(site, SLUMPS)["verdicts"] == {}
    assert not sites(site)["reviewed"].any()
    before, unreviewed = sites(site), versions()

    verdicts = VerdictStore(site.resource("store").root)
    verdicts.append([about(stone, "no", 32608), about(slump, "yes", 32608, reviewer="Bo")])
    metadata = metadata_of(site, RTS, 2023)
    assert (metadata["sites_worked_out"], metadata["sites_kept"]) == (0, 2)
    assert metadata["verdicts"] == {"no": 1, "yes": 1}
    assert metadata_of(site, SLUMPS)["verdicts"] == {"no": 1, "yes": 1}
    judged, reviewed = sites(site), versions()
    assert not set(reviewed) & set(unreviewed)
    others = [name for name in before.columns if name not in REVIEW_COLUMNS]
    assert judged[others].to_wkb().equals(before[others].to_wkb())
    # Rejected sites stay in the tables and leave the layers.
    assert dict(zip(judged["area_ha"].round(2), judged["verdict"], strict=True)) == {1.0: "no", 4.0: "yes"}
    for name in ("rts_sites", "rts_slumps"):
        assert sorted(table(site, "slumps", name=f"{name}.parquet")["verdict"]) == ["no", "yes"]
        assert layer("slumps", name=f"{name}.gpkg") == {4.0}
    assert layer("rts", "2023", name="rts_2023.gpkg") == {4.0}
    assert metadata_of(site, RTS, 2023, publish_rejected=True)["sites_worked_out"] == 0
    assert layer("rts", "2023", name="rts_2023.gpkg") == {1.0, 4.0}

    metadata = metadata_of(site, REVIEW_REPORT, wanted_precision=0.4)
    assert (metadata["reviewed"], metadata["slumps"], metadata["precision"]) == (2, 2, 0.5)
    assert (metadata["threshold"], "safe_threshold" in metadata) == (0.8, False)
    assert [dict(each.data)["slumps"] for each in metadata["by_probability"].records] == [2]
    assert metadata["Chart"].startswith("![](data:image/webp;base64,")
    folder = site.place("inventory", "review_report").location.path / "latest"
    assert (folder / "by_region.csv").read_text().splitlines() == [
        "region,slumps,reviewed,yes,redraw,no,unsure,share_reviewed,precision,low,high",
        "08W,2,2,1,0,1,0,1.0000,0.5000,0.0945,0.9055",
    ]

    # An update equals a rebuild, to the last bit; without new verdicts its version is the same.
    metadata_of(site, RTS, 2023, rebuild=True)
    assert versions()[0] == reviewed[0]
    assert sites(site).to_wkb().equals(judged.to_wkb())
    # The polygons of another model have other outlines and ids.
    publish(site, world, Planted(180, [square(-20, 10, 190), square(980, 20, 100)], version="2"))
    metadata_of(site, RTS, 2023)
    assert dict(zip(sites(site)["area_ha"].round(2), sites(site)["verdict"], strict=True)) == {1.0: "no", 3.61: "yes"}
    assert layer("rts", "2023", name="rts_2023.gpkg") == {3.61}


def test_an_inventory_of_an_earlier_version_without_judgements_is_read(site: Site, world: World) -> None:
    publish(site, world, Planted(180, [square(0, 0)]))
    metadata_of(site, RTS, 2023)
    place = site.place("inventory", "rts", "2023")
    manifest = place.require()
    names = [file.removesuffix(".parquet") for file in manifest.contents if file.endswith(".parquet")]
    tables = {name: read_table(place, manifest, name) for name in names}
    tables["rts_2023"] = tables["rts_2023"].drop(columns=list(REVIEW_COLUMNS))
    facts = manifest.metadata["provenance"]
    del facts["parameters"]["publish_rejected"], facts["inputs"]["verdicts"]
    write_vectors(place, tables, {**manifest.metadata, "provenance": facts | {"code_version": "0.1.0+4"}})
    VerdictStore(site.resource("store").root).append([about(square(0, 0), "no", 32608)])
    metadata_of(site, SLUMPS)  # before the year is updated
    assert table(site, "slumps", name="rts_sites.parquet")["verdict"].tolist() == ["no"]
    assert metadata_of(site, RTS, 2023)["sites_worked_out"] == 1
    assert sites(site)["verdict"].tolist() == ["no"]


def test_an_unusable_scene_is_reported_and_the_others_are_processed(site: Site, world: World) -> None:
    publish(site, world, Planted(180, [square(0, 0)]))
    lost = publish(site, world, Planted(190, [square(0, 0)]))
    (Path(site.settings.store) / "scenes" / "sentinel2" / f"{lost}.json").unlink()
    result = run(site, RTS, 2023)
    assert result.success
    assert list(sites(site)["seen"]) == [1]
    (warning,) = warnings(site.instance, result)
    assert lost in warning
    assert "left out" in warning


def test_an_update_that_fails_changes_nothing_and_the_next_one_heals_it(site: Site, world: World) -> None:
    publish(site, world, Planted(180, [square(0, 0)]))
    metadata_of(site, RTS, 2023)
    before = site.place("inventory", "rts", "2023").require()
    broken = publish(site, world, Planted(190, [square(0, 0)]))
    place = site.place("vectors", "sentinel2", "polygons", broken)
    file = place.location.path / place.require().contents["segments.parquet"] / "segments.parquet"
    content = file.read_bytes()
    file.unlink()
    result = run(site, RTS, 2023)
    assert not result.success
    assert "segments.parquet does not exist" in failure(result)
    assert site.place("inventory", "rts", "2023").require() == before
    file.write_bytes(content)
    assert metadata_of(site, RTS, 2023)["scenes_added"] == 1


@pytest.mark.parametrize(
    ("config", "names"), [({"families": ["landsat"]}, "landsat"), ({"min_overlap": 2}, "min_overlap")]
)
def test_wrong_config_is_named(site: Site, config: dict[str, Any], names: str) -> None:
    result = run(site, RTS, 2023, **config)
    assert not result.success
    assert names in failure(result)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[Site]:
    """A site whose scenes have polygons: a clear scene of 2023, and one of 2022 with clouds."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "dagster").mkdir()
    (folder / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    sources = {"arcticdem": str(world.arcticdem), "tcvis": world.tcvis, "models": (DEMO_MODEL,)}
    settings = Settings(store=str(folder / "store"), **sources)
    site = Site(folder, settings, dg.DagsterInstance.from_config(str(folder / "dagster")))
    for scene in site.register(*world.items):
        result = site.run(scene, "raw_scene", "auxiliary", "preprocessed_tile", "segmentation", "polygons")
        assert result.success, reason(result)
    yield site
    site.instance.dispose()


def test_true_slumps_are_one_site_a_year_and_one_slump_in_all(demo: Site, world: World) -> None:
    truth = gpd.read_file(world.truth).to_crs(6931)
    for year in (2022, 2023):
        metadata_of(demo, RTS, year)
        detected = sites(demo, year)
        (scene,) = set(detected["scenes"])
        planted = truth[truth["scene_id"] == scene]
        clear = demo.load("polygons", scene)["clear"].to_crs(6931).union_all()
        planted = planted[planted.intersection(clear).area >= 0.5 * planted.area]  # others are under clouds
        hits = detected.sjoin(planted[["slump_id", "geometry"]])
        assert len(hits) >= 0.7 * len(planted) > 0
        assert hits["slump_id"].is_unique
        assert hits["site_id"].is_unique
        areas = hits["area_ha"] / planted.set_index("slump_id").area[hits["slump_id"]].to_numpy() * 1e4
        assert areas.median() == pytest.approx(1, abs=0.2)
    metadata_of(demo, SLUMPS)
    slumps = table(demo, "slumps", name="rts_slumps.parquet")
    outlines = truth.drop_duplicates("slump_id")[["slump_id", "geometry"]].rename(columns={"slump_id": "truth"})
    hits = slumps.sjoin(outlines)
    assert hits["truth"].is_unique
    assert hits["slump_id"].is_unique
    assert (slumps["years_seen"] == 2).any()

"""The asset over a small store: an inventory of two years, scenes with clouds, references with and without extent."""

import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from xml.etree import ElementTree

import dagster as dg
import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
from PIL import Image

from darts_assets.inventory.inventory_store import write_followed, write_inventory
from darts_assets.inventory.site_parameters import FollowParameters, InventoryParameters
from darts_assets.inventory.slumps import follow
from darts_assets.inventory.yearly_inventory import empty_inventory
from darts_assets.orchestration.core.resources import SourceAccess, Store
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.inventory.accuracy_asset import ACCURACY, AccuracyConfig, build_accuracy
from darts_assets.stores.vectors import read_table, write_vectors
from tests.inventory.planted import Planted, Tables, brought_to, square

CLOUD = square(1900, -100, 400)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """2022: one slump; 2023: the same slump and a false alarm, seen twice, and a cloud."""
    store = Store(url=str(tmp_path / "store"))
    scenes = [
        Planted(200, [square(0, 0)], year=2022),
        Planted(200, [square(0, 0), square(1000, 0)], clouds=CLOUD),
        Planted(210, [square(0, 0), square(1000, 0)], clouds=CLOUD),
    ]
    for scene in scenes:
        tables = {"segments": scene.segments(), "extent": scene.valid_area(), "clear": scene.observed()}
        facts = {"provenance": {"data_version": scene.version}}
        write_vectors(store.place("vectors", "sentinel2", "polygons", scene.id), tables, facts)
    years = {}
    for year in (2022, 2023):
        of_year = [scene for scene in scenes if scene.year == year]
        years[year] = brought_to(empty_inventory(year, InventoryParameters()), of_year)
        write_inventory(store.place("inventory", "rts", str(year)), years[year], {})
    sites, looks = ({year: getattr(of, name) for year, of in years.items()} for name in ("sites", "scenes"))
    followed = follow(sites, looks, Tables(scenes).observed, FollowParameters())
    facts = {"provenance": {"data_version": "v1", "inputs": {"rts_2022": "a", "rts_2023": "b", "verdicts": "c"}}}
    write_followed(store.place("inventory", "slumps"), followed, facts)
    return store


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A: hit in both years; B: under the cloud of 2023; C: a miss; D: of 2023 only, outside of the scenes."""
    path = tmp_path / "arts part.gpkg"
    table = {
        "UID": list("ABCD"),
        "BaseMapDate": ["2022-07-01,2023-08-01"] * 3 + ["2023-07-01"],
        "TrainClass": ["Positive"] * 4,
    }
    shapes = [square(0, 0), square(2000, 0), square(3000, 0), square(9000, 0)]
    gpd.GeoDataFrame(table, geometry=shapes, crs="EPSG:32608").to_file(path)
    return path


@pytest.fixture
def extent(tmp_path: Path) -> Path:
    path = tmp_path / "extent.gpkg"
    regions = {"name": ["west", "east"]}
    shapes = [square(-500, -1000, 1200), square(700, -5000, 20_000)]
    gpd.GeoDataFrame(regions, geometry=shapes, crs="EPSG:32608").to_file(path)
    return path


def run(store: Store, **config: Any) -> dg.ExecuteInProcessResult:
    registry = SceneRegistry(store=store, access=SourceAccess())
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            build_accuracy(), resources={"store": store, "scenes": registry}, instance=instance, raise_on_error=False,
            run_config={"ops": {"__".join(ACCURACY.path): {"config": {"block_km": 1, **config}}}},
        )  # fmt: skip


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    data = result.failure_data_for_node("__".join(ACCURACY.path))
    return str(data.user_failure_data.description if data.user_failure_data else data.error)


def test_the_inventory_against_a_reference(store: Store, reference: Path, extent: Path) -> None:
    facts = metadata(run(store, reference=str(reference), extent=str(extent), region_column="name"))
    assert facts["periods"] == ["2022", "2023"]
    # 2022: A hit, B and C missed. 2023: A hit, B not observed, C missed, D not observed. One false alarm in 2023.
    names = ["reference", "reference_hit", "misses", "not_observed", "ours", "ours_hit", "false_alarms"]
    assert [facts[name] for name in names] == [5, 2, 3, 2, 3, 2, 1]
    assert facts["recall"].startswith("0.400")
    assert facts["precision"].startswith("0.667")
    assert facts["extent_known"] is facts["coverage_known"] is True

    place = store.place("validation", "accuracy", "arts_part")
    folder = place.location.path / "latest"
    assert {path.name for path in folder.iterdir()} == {
        *(f"{side}.{suffix}" for side in ("ours", "reference") for suffix in ("gpkg", "parquet", "qml")),
        *(f"{table}.csv" for table in ("total", "by_rule", "by_period", "by_region", "by_size")),
        "accuracy.png",
    }  # fmt: skip
    layer = read_table(place, place.require(), "reference").set_index(["period", "id"])
    assert layer["outcome"].to_dict() == {
        ("2022", "A"): "hit", ("2022", "B"): "miss", ("2022", "C"): "miss",
        ("2023", "A"): "hit", ("2023", "B"): "not_observed", ("2023", "C"): "miss", ("2023", "D"): "not_observed",
    }  # fmt: skip
    ours = gpd.read_file(folder / "ours.gpkg")
    assert (ours.crs, pyogrio.read_info(folder / "ours.gpkg")["geometry_type"]) == ("EPSG:6931", "MultiPolygon")
    assert ours.loc[ours["outcome"] == "hit", "iou"].tolist() == pytest.approx([1, 1], abs=1e-3)
    assert pd.read_csv(folder / "by_region.csv")["region"].tolist() == ["east", "west"]
    by_period = pd.read_csv(folder / "by_period.csv").set_index("period")
    assert by_period["precision"].tolist() == [1, 0.5]
    assert by_period["recall"].tolist() == pytest.approx([1 / 3, 1 / 2], rel=1e-4)
    assert pd.read_csv(folder / "total.csv")["area_ratio"].tolist() == pytest.approx([3 / 5], rel=1e-2)
    with Image.open(folder / "accuracy.png") as chart:
        assert chart.size == (1110, 320)
        assert len(set(chart.convert("RGB").getdata())) > 50
    style = ElementTree.parse(folder / "reference.qml").getroot()
    assert style.find("renderer-v2").get("attr") == "outcome"
    labels = [each.get("value") for each in style.iter("category")]
    assert set(layer["outcome"]) <= set(labels)


def test_slumps_of_all_years_together(store: Store, reference: Path, extent: Path) -> None:
    facts = metadata(run(store, reference=str(reference), extent=str(extent), together=True, name="all-years"))
    names = ["reference", "reference_hit", "not_observed", "ours", "ours_hit"]
    assert [facts[name] for name in names] == [3, 1, 1, 2, 1]  # B was seen in 2022
    assert store.place("validation", "accuracy", "all-years").manifest() is not None


def test_polygons_of_a_file_with_their_coverage(store: Store, reference: Path, extent: Path, tmp_path: Path) -> None:
    ours, coverage = tmp_path / "mine.geojson", tmp_path / "seen.gpkg"
    table = gpd.GeoDataFrame({"when": ["2023"] * 2}, geometry=[square(2010, 0), square(6000, 0)], crs="EPSG:32608")
    table.to_crs(4326).to_file(ours)
    gpd.GeoDataFrame(geometry=[square(1500, -500, 6000)], crs="EPSG:32608").to_file(coverage)
    options = {"reference": str(reference), "extent": str(extent), "ours": str(ours), "ours_start_column": "when"}
    facts = metadata(run(store, **options, coverage=str(coverage)))
    assert [facts[name] for name in ("reference", "reference_hit", "not_observed", "ours_hit", "false_alarms")] == [
        2, 1, 2, 1, 1
    ]  # fmt: skip
    facts = metadata(run(store, **options))
    assert [facts[name] for name in ("reference", "not_observed")] == [4, 0]
    assert facts["coverage_known"] is False


def test_without_an_extent(store: Store, reference: Path) -> None:
    facts = metadata(run(store, reference=str(reference)))
    assert facts["recall"] == "0.400"  # too few blocks for an interval
    assert "precision" not in facts
    assert (facts["ours"], facts["ours_hit"], facts["unmapped_ours"]) == (0, 2, 1)


def test_the_data_version_depends_on_the_reference(store: Store, reference: Path) -> None:
    def version() -> str:
        return str(metadata(run(store, reference=str(reference), years=[2023]))["provenance"]["data_version"])

    first = version()
    assert version() == first
    table = gpd.read_file(reference)
    table.geometry = table.geometry.translate(1, 0)
    table.to_file(reference)
    assert version() != first


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"years": [2019]}, r"SettingsError: no year to compare: ours are of 2022 to 2023, the reference is of 2022 to "
         r"2023, years is \[2019\]; set year_tolerance or years"),
        ({"extent": "none.gpkg"}, "SettingsError: extent none.gpkg: there is no such file"),
        ({"name": "../up"}, "SettingsError: name is '../up', expected up to 100 letters"),
        ({"id_column": "nr"}, "SettingsError: reference .*arts part.gpkg: there is no column 'nr'; columns are UID"),
    ],
)  # fmt: skip
def test_unusable_config_fails_with_one_sentence(
    store: Store, reference: Path, config: dict[str, Any], message: str
) -> None:
    assert re.match(message, failure(run(store, reference=str(reference), **config)))


def test_without_an_inventory(tmp_path: Path, reference: Path) -> None:
    empty = Store(url=str(tmp_path / "empty"))
    assert "nothing has been published" in failure(run(empty, reference=str(reference)))


def test_no_token_of_a_url_is_kept(store: Store, reference: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(reference.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/arts%20part.gpkg?sig=topsecret"
        facts = metadata(run(store, reference=url, name="remote"))
        server.shutdown()
    assert facts["reference"] == 5
    manifest = store.place("validation", "accuracy", "remote").require()
    assert "topsecret" not in f"{facts} {manifest.metadata}"
    assert manifest.metadata["provenance"]["parameters"]["reference"].endswith("arts%20part.gpkg?***")


def test_names_of_results() -> None:
    assert AccuracyConfig(reference="s3://bucket/Nordenskiöld 2021.gpkg").place_name() == "Nordenski_ld_2021"
    assert AccuracyConfig(reference="/data/labels/").place_name() == "labels"

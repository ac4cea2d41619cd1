"""Releases of a world of three years and two sensors: the same bytes again, described, and readable elsewhere."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import pandas as pd
import pyogrio
import pystac
import pytest
import rasterio
import yaml
from pystac.validation import JsonSchemaSTACValidator, set_validator
from pystac_client import Client

from darts_assets.catalog.stac_ndjson import write_ndjson
from darts_assets.catalog.stac_tree import update_stac
from darts_assets.dataset.release import build_release, publish_release, read_inputs
from darts_assets.dataset.release_parameters import ReleaseParameters
from darts_assets.errors import NotReadableError, SettingsError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from tests.catalog.stac_schemas import offline_validator
from tests.dataset.published_world import publish_catalog, publish_slumps, publish_world, scenes, update_tables
from tests.inventory.planted import Planted, square
from tests.servers.stac_api.server import StacApi

PARAMETERS = ReleaseParameters(
    version="1.0", name="DARTS_Team", authors=["Nitze, Ingmar (0000-0002-1165-6852)", "Doe, Jo"], arts="all",
    institution="Institute", contact="data@example.org", doi="10.1234/abc.5", date="2026-11-29", title="Slumps of Peel",
)  # fmt: skip
STEM = "DARTS_Team_v1-0"
ITEMS = (
    "level1", "level2", "darts-level1", "darts-level2", "images", "coverage", "coverage-union", "coverage-days",
    "areas", "arts", "models",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> StoreLocation:
    root = StoreLocation(str(tmp_path_factory.mktemp("store")))
    publish_world(root, scenes())
    assert update_tables(root, scenes()) == ([2021, 2022, 2023], [2021, 2022, 2023])
    return root


@pytest.fixture(scope="module")
def folder(root: StoreLocation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    build_release(folder, read_inputs(root, PARAMETERS), PARAMETERS)
    return folder


def sums(folder: Path) -> str:
    return (folder / "SHA256SUMS").read_text()


def test_a_release_has_these_files_and_their_hashes(folder: Path) -> None:
    layers = ("level1", "level2")
    vectors = {f"{STEM}_features_2021-2023_{level}" for level in layers}
    vectors |= {f"darts/{STEM}_features_2021-2023_{level}" for level in layers}
    vectors |= {f"{STEM}_coverage_2021-2023", f"{STEM}_coverage_2021-2023_union"}
    plain = {f"{STEM}_images_2021-2023"}
    documents = {"README.md", "CITATION.cff", "LICENSE.txt", "datapackage.json", "provenance.json", "collection.json"}
    models = {path.name for path in (folder / "models").iterdir()}
    assert {path.rpartition(".")[2] for path in models} == {"json", "md"}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        *(f"{name}{suffix}" for name in vectors for suffix in (".gpkg", ".parquet", ".qml")),
        *(f"{name}{suffix}" for name in plain for suffix in (".gpkg", ".parquet")),
        f"{STEM}_coverage_2021-2023_days.tif", f"{STEM}_areas_2021-2023.csv", f"arts/{STEM}_arts.geojson",
        *(f"items/{name}.json" for name in ITEMS),
        *documents,
        *(f"models/{name}" for name in models), "SHA256SUMS",
    }  # fmt: skip
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=False).returncode == 0


def test_the_same_inputs_give_the_same_bytes(root: StoreLocation, folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    build_release(again, read_inputs(root, PARAMETERS), PARAMETERS)
    assert sums(again) == sums(folder)
    # Made from scratch elsewhere, with scenes published in another order.
    other, elsewhere = StoreLocation(str(tmp_path / "other")), tmp_path / "elsewhere"
    elsewhere.mkdir()
    publish_world(other, scenes()[::-1])
    update_tables(other, scenes())
    build_release(elsewhere, read_inputs(other, PARAMETERS), PARAMETERS)
    assert sums(elsewhere) == sums(folder)


def test_levels_of_both_profiles(folder: Path) -> None:
    level1, level2 = (
        gpd.read_parquet(folder / f"{STEM}_features_2021-2023_{name}.parquet") for name in ("level1", "level2")
    )
    assert level1["year"].value_counts().to_dict() == {2021: 2, 2022: 5, 2023: 4}
    assert level2["year"].tolist() == [2021, 2022, 2022, 2023, 2023, 2023]
    assert set(level1["site_id"]) == set(level2["site_id"])
    grown = level2[level2["slump_id"] == level2["slump_id"].iloc[0]]
    assert grown["area_m2"].tolist() == pytest.approx([10_000, 14_400, 22_500], rel=0.05)
    for table in (level1, level2):
        assert table.crs == "EPSG:4326"
    darts1, darts2 = (
        pyogrio.read_dataframe(folder / f"darts/{STEM}_features_2021-2023_{name}.gpkg") for name in ("level1", "level2")
    )
    assert len(darts1) == len(level1)
    assert darts2["year"].tolist() == [2021, 2022, 2022, 2023, 2023, 2023]
    assert darts2["id"].tolist() == [1, 2, 3, 4, 5, 6]
    # The maximum extent: of 118, 120 and 122 metres in 2022 the largest, of two squares 5 metres apart their union.
    extents = darts2.to_crs(32608).area
    assert sorted(extents.round(-1)) == pytest.approx([3600, 10_000, 10_000, 11_000, 122**2, 155 * 150], rel=0.01)
    (wide,) = darts2[(extents - 155 * 150).abs() < 100].to_dict("records")
    assert (wide["images"], wide["pval_min"], wide["pval_max"]) == (2, pytest.approx(0.6), pytest.approx(0.9))


def test_level2_of_the_profile_has_the_public_columns_of_the_database(folder: Path) -> None:
    """Of the attributes of DARTS v1.2, these are public: `id`, `year` (whole numbers) and the prefix `pval_`."""
    for suffix, read in ((".parquet", gpd.read_parquet), (".gpkg", pyogrio.read_dataframe)):
        for level in ("level1", "level2"):
            table = read(folder / f"darts/{STEM}_features_2021-2023_{level}{suffix}")
            assert table.dtypes[["id", "year"]].astype(str).tolist() in (["int64", "int64"], ["int32", "int32"])
            assert [name for name in table if name.startswith("pval_")] == [
                "pval_min",
                "pval_max",
                "pval_mean",
                "pval_std",
            ]
            assert table["id"].is_unique
            assert table.crs == "EPSG:4326"


def test_the_data_dictionary_describes_every_column_of_every_file(folder: Path) -> None:
    package = json.loads((folder / "datapackage.json").read_text())
    resources = {each["path"]: each for each in package["resources"]}
    tables = [path for path in folder.rglob("*") if path.suffix in (".parquet", ".gpkg", ".csv", ".geojson")]
    for path in tables:
        described = resources[path.relative_to(folder).as_posix()]["schema"]["fields"]
        table: Any = {".parquet": gpd.read_parquet, ".csv": pd.read_csv}.get(path.suffix, pyogrio.read_dataframe)(path)
        assert [field["name"] for field in described] == [name for name in table.columns if name != "bbox"], path.name
        assert all(field["description"] for field in described)
    level2 = resources[f"{STEM}_features_2021-2023_level2.gpkg"]
    units = {field["name"]: field.get("unit") for field in level2["schema"]["fields"]}
    assert (units["area_m2"], units["area_low_ha"], units["rate_ha_per_year"], units["lon"]) == (
        "m2",
        "ha",
        "ha/a",
        "degree",
    )
    assert level2["schema"]["primaryKey"] == ["site_id"]
    assert {"Contains modified Copernicus Sentinel data 2021-2023."} <= {each["title"] for each in package["sources"]}
    assert any("Planet Labs" in each["title"] for each in package["sources"])
    assert any("Polar Geospatial Center" in each["title"] for each in package["sources"])
    assert any("Google Earth Engine" in each["title"] for each in package["sources"])


def test_coverage_of_the_years(folder: Path) -> None:
    with rasterio.open(folder / f"{STEM}_coverage_2021-2023_days.tif") as raster:
        assert raster.descriptions == ("days_2021", "days_2022", "days_2023")
        assert raster.crs == "EPSG:6931"
        days = raster.read()
        cell_km2 = raster.res[0] * raster.res[1] / 1e6
    # Both images of 2022 on day 180 count as one day.
    assert [int(band.max()) for band in days] == [2, 2, 2]
    polygons = gpd.read_parquet(folder / f"{STEM}_coverage_2021-2023.parquet")
    assert polygons[["year", "days_from"]].to_numpy().tolist() == [
        [2021, 1],
        [2021, 2],
        [2022, 1],
        [2022, 2],
        [2023, 2],
    ]
    seen = polygons.groupby("year")["area_km2"].sum()
    assert seen.to_numpy() == pytest.approx([36, 36, 36 - 2.25], rel=0.02)
    assert seen.to_numpy() == pytest.approx([(band > 0).sum() * cell_km2 for band in days], rel=1e-3)
    union = gpd.read_parquet(folder / f"{STEM}_coverage_2021-2023_union.parquet")
    assert union.set_index("years_seen")["area_km2"].to_dict() == pytest.approx({2: 2.25, 3: 33.75}, rel=0.05)
    images = gpd.read_parquet(folder / f"{STEM}_images_2021-2023.parquet")
    assert images["valid_km2"].to_numpy() == pytest.approx([36] * 7, rel=2e-3)
    assert images["clear_km2"].to_numpy()[0] == pytest.approx(33.75, rel=2e-3)


def test_documents(folder: Path) -> None:
    cited = yaml.safe_load((folder / "CITATION.cff").read_text())
    assert (cited["type"], cited["doi"], cited["license"]) == ("dataset", "10.1234/abc.5", "CC-BY-4.0")
    assert cited["authors"][0] == {
        "family-names": "Nitze", "given-names": "Ingmar", "orcid": "https://orcid.org/0000-0002-1165-6852",
        "affiliation": "Institute",
    }  # fmt: skip
    readme = (folder / "README.md").read_text()
    for text in ("# Slumps of Peel", "Version 1.0, 2026-11-29", "data@example.org", "https://doi.org/10.1234/abc.5",
                 "Years 2021-2023; 11 detections, 6 sites, 7 images.", "95 % interval"):  # fmt: skip
        assert text in readme
    assert "creativecommons.org/licenses/by/4.0" in (folder / "LICENSE.txt").read_text()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["inputs"].keys() == {"level2"} | {
        f"{n}_{y}" for n in ("level1", "coverage") for y in (2021, 2022, 2023)
    }
    assert provenance["parameters"]["rts_2022"]["min_support"] > 0
    assert "darts_assets" in provenance["software"]
    (card,) = (folder / "models").glob("*.md")
    assert "relative_elevation" in card.read_text()


def test_a_release_is_a_valid_stac_collection(folder: Path) -> None:
    set_validator(offline_validator())
    try:
        collection = pystac.Collection.from_file(str(folder / "collection.json"))
        assert collection.validate_all() == len(ITEMS)
        assets = {asset.get_absolute_href() for item in collection.get_items() for asset in item.assets.values()}
    finally:
        set_validator(JsonSchemaSTACValidator())
    own = {
        "README.md",
        "CITATION.cff",
        "LICENSE.txt",
        "datapackage.json",
        "provenance.json",
        "collection.json",
        "SHA256SUMS",
    }
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "items"]
    assert assets == {str(path) for path in files if path.name not in own}


def test_duckdb_opens_the_tables(folder: Path) -> None:
    query = f"SELECT year, count(*), sum(area_m2) FROM '{folder}/*_level2.parquet' GROUP BY year ORDER BY year"
    rows = duckdb.sql(query).fetchall()
    assert [row[:2] for row in rows] == [(2021, 1), (2022, 2), (2023, 3)]


def test_a_published_version_does_not_change(root: StoreLocation, folder: Path, tmp_path: Path) -> None:
    place = Place(StoreLocation(str(tmp_path / "store")).child("dataset", "release", "1.0"), has_latest=True)
    manifest, is_new = publish_release(place, folder, {})
    assert is_new
    assert publish_release(place, folder, {}) == (manifest, False)
    assert sums(place.location.path / "latest") == sums(folder)
    other = tmp_path / "other"
    other.mkdir()
    changed = PARAMETERS.model_copy(update={"title": "Another title"})
    build_release(other, read_inputs(root, changed), changed)
    with pytest.raises(SettingsError, match=r"is published with other content .* choose another `version`"):
        publish_release(place, other, {})
    assert place.require() == manifest


def test_a_release_without_an_author_or_a_year_is_refused(root: StoreLocation, tmp_path: Path) -> None:
    nobody = ReleaseParameters()
    with pytest.raises(SettingsError, match="a release needs `authors` or an `institution`"):
        build_release(tmp_path, read_inputs(root, nobody), nobody)
    with pytest.raises(SettingsError, match="no year from 2030 to its last"):
        read_inputs(root, PARAMETERS.model_copy(update={"first_year": 2030}))


def test_a_part_of_the_years(root: StoreLocation, tmp_path: Path) -> None:
    parameters = PARAMETERS.model_copy(update={"last_year": 2022, "profile": "darts", "arts": "none"})
    facts = build_release(tmp_path, read_inputs(root, parameters), parameters)
    assert (facts.years, facts.counts) == ((2021, 2022), {"detections": 7, "sites": 3, "images": 5})
    names = {path.name for path in tmp_path.iterdir()}
    assert not any("features" in name for name in names)
    assert "arts" not in names
    with rasterio.open(tmp_path / f"{STEM}_coverage_2021-2022_days.tif") as raster:
        assert raster.count == 2


def test_rejected_sites_leave_the_release_and_become_negatives_of_arts(tmp_path: Path) -> None:
    root = StoreLocation(str(tmp_path / "store"))
    publish_world(root, scenes())
    first = gpd.read_parquet(next((root.path / "inventory" / "slumps").glob("2*/rts_sites.parquet")))["slump_id"].iloc[
        0
    ]
    publish_slumps(root, scenes(), **{first.replace("-", "_"): "no"})
    update_tables(root, scenes())
    counts = {}
    for name, kept in (("with", True), ("without", False)):
        parameters = PARAMETERS.model_copy(update={"include_rejected": kept})
        (folder := tmp_path / name).mkdir()
        counts[name] = build_release(folder, read_inputs(root, parameters), parameters).counts["sites"]
        arts = pyogrio.read_dataframe(folder / f"arts/{STEM}_arts.geojson")
        assert arts["TrainClass"].value_counts().to_dict() == {"Positive": 3, "Negative": 3}
    assert counts == {"with": 6, "without": 3}


def test_tables_that_are_older_than_the_inventory_are_refused(tmp_path: Path) -> None:
    root = StoreLocation(str(tmp_path / "store"))
    publish_world(root, scenes())
    with pytest.raises(NotReadableError, match="nothing has been published; materialize its partition first"):
        read_inputs(root, PARAMETERS)
    update_tables(root, scenes())
    more = [*scenes(), Planted(210, [square(0, 0, 160)], square(-1000, -1000, 6000), year=2023)]
    publish_world(root, more)
    with pytest.raises(NotReadableError, match="dataset/level2 is older than inventory/slumps"):
        read_inputs(root, PARAMETERS)
    assert update_tables(root, more) == ([2023], [2023])
    assert len(read_inputs(root, PARAMETERS).images) == 8


def test_the_catalog_links_to_releases_and_writes_them_as_lines(tmp_path: Path) -> None:
    root = StoreLocation(str(tmp_path / "store"))
    publish_world(root, scenes()[:2])
    update_tables(root, scenes()[:2])
    (folder := tmp_path / "release").mkdir()
    build_release(folder, read_inputs(root, PARAMETERS), PARAMETERS)
    publish_release(Place(root.child("dataset", "release", "1.0"), has_latest=True), folder, {})
    publish_catalog(root)
    catalog = pystac.Catalog.from_file(str(root.path / "catalog" / "catalog.json"))
    (release,) = [child for child in catalog.get_children() if child.id == "darts_team-1.0"]
    assert sorted(item.id for item in release.get_items()) == sorted(f"darts_team-1.0-{name}" for name in ITEMS)
    counts = write_ndjson(root, tmp_path / "lines", "https://files.example.org/store")
    assert counts["darts_team-1.0"] == len(ITEMS)
    lines = [json.loads(line) for line in (tmp_path / "lines" / "items.ndjson").read_text().splitlines()]
    hrefs = {
        asset["href"] for line in lines if line["collection"] == "darts_team-1.0" for asset in line["assets"].values()
    }
    base = "https://files.example.org/store/dataset/release/1.0/"
    assert all(href.startswith(base) for href in hrefs)
    assert all((root.path / href.removeprefix("https://files.example.org/store/")).is_file() for href in hrefs)


def test_a_stac_api_finds_the_layers_of_a_release(folder: Path, tmp_path: Path, stac_api: StacApi) -> None:
    root = StoreLocation(str(tmp_path / "store"))
    publish_release(Place(root.child("dataset", "release", "1.0"), has_latest=True), folder, {})
    update_stac(root, [], [], licence="CC-BY-4.0")
    write_ndjson(root, tmp_path, "https://files.example.org/store")
    for kind in ("collections", "items"):
        subprocess.run(
            [Path(sys.executable).with_name("pypgstac"), "load", kind, tmp_path / f"{kind}.ndjson",
             "--method", "upsert", "--dsn", stac_api.dsn],
            check=True, capture_output=True,
        )  # fmt: skip
    search = Client.open(stac_api.url).search(collections=["darts_team-1.0"], bbox=(-136, 68, -134, 69))
    items = {item.id.removeprefix("darts_team-1.0-"): item for item in search.items()}
    assert items.keys() == set(ITEMS)
    columns = {column["name"] for column in items["level2"].properties["table:columns"]}
    assert {"site_id", "area_m2", "area_low_ha", "change", "geometry"} <= columns
    assert items["coverage-days"].assets["tif"].extra_fields["file:checksum"].startswith("1220")

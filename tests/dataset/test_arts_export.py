"""The export for ARTS: its ids against those of the published collection, and relations from splits and merges."""

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
import shapely

from darts_assets.dataset.arts_export import CRS, DESCRIPTIONS, REQUIRED, arts_table, uid
from darts_assets.dataset.release_parameters import ReleaseParameters

PARAMETERS = ReleaseParameters(arts="all", creator_lab="Lab", date="2026-11-29")
X, Y = -2_100_000, 900_000


def sites(*rows: tuple[str, int, str, str, str], **columns: object) -> gpd.GeoDataFrame:
    """Sites of slump, year, event, predecessors and families."""
    table = pd.DataFrame(rows, columns=["slump_id", "year", "event", "predecessors", "families"]).assign(**columns)
    table["site_id"] = table["slump_id"] + "-" + table["year"].astype(str)
    table["first_date"] = pd.to_datetime(table["year"].astype(str) + "-07-01", utc=True)
    table["last_date"] = pd.to_datetime(table["year"].astype(str) + "-08-15", utc=True)
    return gpd.GeoDataFrame(
        table, geometry=[shapely.box(X, Y, X + 100 + n, Y + 100) for n in range(len(rows))], crs=6931
    )


def test_ids_are_those_of_the_published_collection(shared: Path) -> None:
    """Of version 5.0.0, 43 of 2,276 ids were made from other values than those that it now contains."""
    table = pyogrio.read_dataframe(shared / "data/arts_curated/ARTS_main_dataset_v.5.0.0.geojson", read_geometry=False)
    values = table[list(REQUIRED)].astype(object)
    for name in ("CentroidLat", "CentroidLon"):
        values[name] = [round(float(value), 5) for value in values[name]]
    made = pd.Series([uid(fields) for fields in values.itertuples(index=False)])
    assert (len(made), int((made == table["UID"]).sum())) == (2276, 2233)


def test_fields_of_a_site() -> None:
    table = arts_table(sites(("a", 2023, "new", "", "planet,sentinel2"), ("b", 2023, "new", "", "planet")), PARAMETERS)
    assert table.columns.tolist() == [*DESCRIPTIONS, "geometry"]
    assert table.crs == CRS
    (first, second) = table.to_dict("records")
    assert (first["BaseMapDate"], first["BaseMapSource"], first["BaseMapResolution"]) == (
        "2023-07-01,2023-08-15", "PlanetScope, Sentinel-2", 10
    )  # fmt: skip
    assert (second["BaseMapSource"], second["BaseMapResolution"], second["CreatorLab"]) == ("PlanetScope", 3, "Lab")
    assert (first["TrainClass"], first["LabelType"], first["ContributionDate"]) == ("Positive", "Polygon", "2026-11-29")
    assert first["UID"] == uid([first[name] for name in REQUIRED])
    assert first["UID"] != second["UID"]
    assert round(first["CentroidLat"], 5) == first["CentroidLat"]
    assert table["RegionName"].str.fullmatch(r"\d\d[A-X]").all()
    named = arts_table(sites(("a", 2023, "new", "", "planet")), PARAMETERS.model_copy(update={"region_name": "Peel"}))
    assert named["RegionName"].tolist() == ["Peel"]


def test_relations_refer_to_the_outlines_of_the_year_before() -> None:
    table = arts_table(
        sites(
            ("a", 2021, "new", "", "planet"),
            ("b", 2021, "new", "", "planet"),
            ("a", 2022, "merged", "a,b", "planet"),
            ("a", 2023, "split", "a", "planet"),
            ("c", 2023, "split", "a", "planet"),
            ("d", 2023, "continued", "unknown", "planet"),
        ),
        PARAMETERS,
    ).set_index("SiteID")
    uids = table["UID"]
    assert table.loc["a-2022", "MergedRTS"] == f"{uids['a-2021']},{uids['b-2021']}"
    assert [table.loc[name, "SplitRTS"] for name in ("a-2023", "c-2023")] == [uids["a-2022"]] * 2
    assert table.loc["a-2021", ["MergedRTS", "SplitRTS", "UnknownRelationship"]].isna().all()
    assert pd.isna(table.loc["d-2023", "UnknownRelationship"])
    assert table[["NewRTS", "StabilizedRTS"]].isna().all(axis=None)


@pytest.mark.parametrize(("which", "classes"), [("all", "PPNP"), ("reviewed", "PPN")])
def test_verdicts_are_classes(which: str, classes: str) -> None:
    reviewed = sites(
        *[(name, 2023, "new", "", "planet") for name in "abcde"], verdict=["yes", "redraw", "no", "", "unsure"]
    )
    table = arts_table(reviewed, PARAMETERS.model_copy(update={"arts": which}))
    assert "".join(table["TrainClass"].str[0]) == classes

"""Verdicts are tied to places: cases by hand of rebuilds, new models, changed outlines, splits and mergers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely

from darts_assets.inventory.site_parameters import FollowParameters, InventoryParameters
from darts_assets.inventory.slumps import Followed, follow
from darts_assets.inventory.yearly_inventory import empty_inventory
from darts_assets.review.judgement import judge, judge_points, judge_slumps, review_version, verdict_table
from darts_assets.review.review_columns import REVIEW_COLUMNS
from darts_assets.review.verdict_record import Verdict
from tests.inventory.planted import Planted, Tables, brought_to, square
from tests.review.verdict_samples import about, point_verdict

PARAMETERS = InventoryParameters()
UTM = 32608


def sites(year: int, *shapes: shapely.Geometry) -> gpd.GeoDataFrame:
    """The inventory of a year with one scene, from scratch."""
    return brought_to(empty_inventory(year, PARAMETERS), [Planted(200, list(shapes), year=year)]).sites


def verdicts_of(table: gpd.GeoDataFrame, verdicts: Sequence[Verdict]) -> list[tuple[Any, ...]]:
    """Verdict, number of reviewers and agreement of the sites, from west to east."""
    judged = judge(table, verdict_table(verdicts), PARAMETERS)
    assert list(judged.columns) == [*table.columns[:-1], *REVIEW_COLUMNS, "geometry"]
    assert judged[list(REVIEW_COLUMNS)].dtypes.astype(str).to_dict() == REVIEW_COLUMNS
    assert (judged["reviewed"] == (judged["reviewers"] > 0)).all()
    assert (judged["reviewed"] == judged["agreement"].notna()).all()
    order = judged.sort_values("lon")
    return [
        (row.verdict, row.reviewers, round(row.agreement, 2)) if row.reviewed else (row.verdict,)
        for row in order.itertuples()
    ]


def on(outline: shapely.Geometry, decided: str, day: int = 1, reviewer: str = "Ada", year: int = 2023) -> Verdict:
    return about(outline, decided, UTM, time=f"2026-07-{day:02d}T12:00:00Z", reviewer=reviewer, year=year)


@pytest.mark.parametrize("decided", ["yes", "no", "unsure", "redraw"])
def test_a_verdict_is_about_the_site_that_was_shown_and_no_neighbour(decided: str) -> None:
    table = sites(2023, square(0, 0), square(110, 0), square(300, 0))
    verdict = about(table.sort_values("lon").geometry.iloc[0], decided)
    assert verdicts_of(table, [verdict]) == [(decided, 1, 1.0), ("",), ("",)]
    # After a rebuild, and in another order, the same.
    again = sites(2023, square(300, 0), square(110, 0), square(0, 0))
    assert verdicts_of(again, [verdict]) == [(decided, 1, 1.0), ("",), ("",)]


def test_without_verdicts_or_sites_the_columns_are_there() -> None:
    assert verdicts_of(sites(2023, square(0, 0)), []) == [("",)]
    assert verdicts_of(sites(2023), [on(square(0, 0), "no")]) == []
    assert review_version(judge(sites(2023, square(0, 0)), verdict_table([]), PARAMETERS), "site_id") == ""


def test_a_new_model_with_another_outline_and_id_keeps_the_verdict() -> None:
    verdict = on(square(0, 0), "no")
    for outline in (square(30, 20), square(-20, -20, 140), square(10, 10, 60), square(0, 0, 60)):
        table = sites(2023, outline, square(400, 0))
        assert table["site_id"].is_unique
        assert verdicts_of(table, [verdict]) == [("no", 1, 1.0), ("",)]
    # A quarter of the smaller one is the least.
    assert verdicts_of(sites(2023, square(74, 0)), [verdict]) == [("no", 1, 1.0)]
    assert verdicts_of(sites(2023, square(76, 0)), [verdict]) == [("",)]


def test_a_no_about_a_small_part_does_not_reject_a_large_site() -> None:
    small = square(0, 0, 40)
    assert verdicts_of(sites(2023, square(0, 0, 100)), [on(small, "no")]) == [("unsure", 1, 1.0)]
    assert verdicts_of(sites(2023, square(0, 0, 79)), [on(small, "no")]) == [("no", 1, 1.0)]
    assert verdicts_of(sites(2023, square(0, 0, 100)), [on(small, "yes")]) == [("yes", 1, 1.0)]


def test_parts_of_a_site_that_splits_keep_its_verdict() -> None:
    whole = shapely.box(*square(0, 0, 100).bounds[:2], square(120, 0).bounds[2], square(0, 0).bounds[3])
    parts = sites(2023, square(0, 0), square(120, 0))
    assert verdicts_of(parts, [on(whole, "no")]) == [("no", 1, 1.0), ("no", 1, 1.0)]
    # Each part can be judged on its own afterwards, by the same reviewer or by another one.
    assert verdicts_of(parts, [on(whole, "no"), on(square(0, 0), "yes", 2)]) == [("yes", 1, 1.0), ("no", 1, 1.0)]
    assert verdicts_of(parts, [on(whole, "no"), on(square(0, 0), "yes", 2, "Bo")]) == [
        ("unsure", 2, 0.0), ("no", 1, 1.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("west", "east", "merged"),
    [("no", "no", "no"), ("yes", "yes", "yes"), ("yes", "no", "unsure"), ("yes", "redraw", "redraw"),
     ("unsure", "yes", "unsure"), ("yes", "", "yes"), ("no", "", "no")],
)  # fmt: skip
def test_a_merged_site_has_the_verdict_on_which_its_parts_agree(west: str, east: str, merged: str) -> None:
    whole = shapely.union(square(0, 0), square(100, 0))
    given = [on(square(0, 0), west, 2)] + ([on(square(100, 0), east, 1)] if east else [])
    assert verdicts_of(sites(2023, whole), given) == [(merged, 1, 1.0)]
    # A new look at the whole settles it.
    assert verdicts_of(sites(2023, whole), [*given, on(whole, "yes", 3)]) == [("yes", 1, 1.0)]


def test_the_latest_verdict_of_each_reviewer_counts_and_the_majority_wins() -> None:
    place, table = square(0, 0), sites(2023, square(5, 5))
    given = [on(place, "no", 3), on(square(10, 0), "yes", 1)]  # the same place, shown with another outline
    assert verdicts_of(table, given) == [("no", 1, 1.0)]
    given += [on(place, "yes", 1, "Bo"), on(place, "no", 2, "Cy")]
    assert verdicts_of(table, given) == [("no", 3, 0.67)]
    assert verdicts_of(table, given[::-1]) == [("no", 3, 0.67)]
    given += [on(place, "yes", 4, "Cy")]
    assert verdicts_of(table, given) == [("yes", 3, 0.67)]
    given += [on(place, "no", 5, "Di")]
    assert verdicts_of(table, given) == [("unsure", 4, 0.0)]
    given += [on(place, "unsure", 6, "Di"), on(place, "unsure", 7, "Ed")]
    assert verdicts_of(table, given) == [("unsure", 5, 0.4)]


def test_places_at_the_antimeridian() -> None:
    """Outlines in degrees that are cut there, or not."""
    (site,) = gpd.GeoSeries([shapely.box(179.99, 68.0, 180.01, 68.01)], crs=4326).to_crs(6931)
    table = gpd.GeoDataFrame({"year": [2023], "lon": [180.0]}, geometry=[site], crs=6931)
    uncut = [[179.99, 68.0], [-179.99, 68.0], [-179.99, 68.01], [179.99, 68.01], [179.99, 68.0]]
    west = [[179.99, 68.0], [180, 68.0], [180, 68.01], [179.99, 68.01], [179.99, 68.0]]
    east = [[-180, 68.0], [-179.99, 68.0], [-179.99, 68.01], [-180, 68.01], [-180, 68.0]]
    for outline in (
        {"type": "Polygon", "coordinates": [uncut]},
        {"type": "MultiPolygon", "coordinates": [[west], [east]]},
    ):
        verdict = on(square(0, 0), "no").model_copy(update={"outline": outline})
        assert verdicts_of(table, [verdict]) == [("no", 1, 1.0)]


@pytest.mark.parametrize(
    "ring",
    [
        [[0, -90], [90, -90], [0, -80], [0, -90]],  # the other pole is no place of the projection
        [[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]],
        [[0, 10], [10, 20], [10, 10], [0, 21], [0, 10]],  # crosses itself
    ],
)
def test_strange_outlines_are_about_nothing(ring: list[list[float]]) -> None:
    strange = on(square(0, 0), "no").model_copy(update={"outline": {"type": "Polygon", "coordinates": [ring]}})
    assert verdicts_of(sites(2023, square(0, 0)), [strange, on(square(0, 0), "yes")]) == [("yes", 1, 1.0)]


@dataclass
class Slumps:
    """Judged slumps over the years."""

    followed: Followed
    verdicts: list[Verdict]

    def by_site(self) -> dict[tuple[int, int], str]:
        """Year and number from the west -> verdict."""
        judged = judge(self.followed.sites, verdict_table(self.verdicts), FollowParameters())
        ordered = judged.sort_values(["year", "lon"])
        return dict(
            zip(zip(ordered["year"], ordered.groupby("year").cumcount(), strict=True), ordered["verdict"], strict=True)
        )


def followed(**years: list[shapely.Geometry]) -> Followed:
    tables = {int(name[1:]): sites(int(name[1:]), *shapes) for name, shapes in years.items()}
    nothing = empty_inventory(0, PARAMETERS).scenes
    return follow(tables, dict.fromkeys(tables, nothing), Tables([]).observed, FollowParameters())


def test_a_verdict_is_about_a_slump_with_all_its_years() -> None:
    """It migrates: the outlines of the first and the last year do not meet."""
    years = followed(y2020=[square(0, 0)], y2021=[square(60, 0)], y2023=[square(120, 0), square(400, 0)])
    assert Slumps(years, [on(square(120, 0), "no", year=2023)]).by_site() == {
        (2020, 0): "no", (2021, 0): "no", (2023, 0): "no", (2023, 1): "",
    }  # fmt: skip
    # Its outline of the year counts, in a year without a site the last one before, and before all the first one.
    assert Slumps(years, [on(square(0, 0), "no", year=2023)]).by_site()[2020, 0] == ""
    assert Slumps(years, [on(square(60, 0), "no", year=2022)]).by_site()[2020, 0] == "no"
    assert Slumps(years, [on(square(0, 0), "no", year=2015)]).by_site()[2023, 0] == "no"
    judged = judge(years.sites, verdict_table([on(square(120, 0), "no")]), FollowParameters())
    slumps = judge_slumps(years.slumps, judged)
    assert slumps.sort_values("first_year")["verdict"].tolist() == ["no", ""]
    assert list(slumps.columns) == [*years.slumps.columns[:-1], *REVIEW_COLUMNS, "geometry"]


def test_a_part_that_splits_off_is_a_slump_of_its_own() -> None:
    whole = shapely.union(square(0, 0), square(100, 0, 90))
    years = followed(y2020=[whole], y2022=[square(0, 0), square(110, 0, 80)])
    # A verdict about the part that is new in 2022 is not about the slump that continues.
    assert Slumps(years, [on(square(110, 0, 80), "no", year=2022)]).by_site() == {
        (2020, 0): "", (2022, 0): "", (2022, 1): "no",
    }  # fmt: skip
    # One about the whole, shown in 2020, is about both.
    assert Slumps(years, [on(whole, "no", year=2020)]).by_site() == {(2020, 0): "no", (2022, 0): "no", (2022, 1): "no"}


def test_slumps_that_merge_keep_the_verdicts_of_their_own_years() -> None:
    years = followed(y2020=[square(0, 0, 120), square(130, 0, 80)], y2022=[shapely.box(*shapely.union_all(
        [square(0, 0, 120), square(130, 0, 80)]).bounds)])  # fmt: skip
    given = [on(square(0, 0, 120), "yes", year=2020), on(square(130, 0, 80), "no", year=2020)]
    assert Slumps(years, given).by_site() == {(2020, 0): "yes", (2020, 1): "no", (2022, 0): "yes"}


def test_the_version_changes_only_with_the_judgements() -> None:
    table = sites(2023, square(0, 0), square(300, 0))

    def version(*given: Verdict) -> str:
        return review_version(judge(table, verdict_table(given), PARAMETERS), "site_id")

    yes = on(square(0, 0), "yes")
    assert version() == "" != version(yes)
    assert version(yes) == version(yes, on(square(5000, 0), "no")) == version(yes, on(square(0, 0), "yes", 5))
    assert (
        len({version(yes), version(on(square(0, 0), "no")), version(yes, on(square(0, 0), "yes", reviewer="Bo"))}) == 3
    )


def test_many_verdicts_are_matched_quickly() -> None:
    side = 100
    xs, ys = np.meshgrid(np.arange(40) * 300, np.arange(40) * 300)
    shapes = [square(x, y, side) for x, y in zip(xs.ravel(), ys.ravel(), strict=True)]
    projected = gpd.GeoSeries(shapes, crs=UTM).to_crs(6931)
    table = gpd.GeoDataFrame({"year": 2023, "lon": np.arange(len(shapes))}, geometry=projected, crs=6931)
    outlines = gpd.GeoDataFrame(
        {"reviewer": "Ada", "verdict": np.where(np.arange(len(shapes)) % 2, "no", "yes"), "year": 2023},
        geometry=projected.to_crs(4326),
    )
    judged = judge(table, outlines, PARAMETERS)
    assert judged["verdict"].tolist() == outlines["verdict"].tolist()


def test_verdicts_about_points() -> None:
    """The latest verdict of a reviewer, the most frequent one of reviewers; a tie is unsure."""
    given = [
        point_verdict(sample_id="a", verdict="no", time="2026-07-02T12:00:00Z"),
        point_verdict(sample_id="a", verdict="yes", time="2026-07-01T12:00:00Z"),
        point_verdict(sample_id="b", verdict="yes"),
        point_verdict(sample_id="b", verdict="yes", reviewer="Bo"),
        point_verdict(sample_id="b", verdict="unsure", reviewer="Cem"),
        point_verdict(sample_id="c", verdict="yes"),
        point_verdict(sample_id="c", verdict="no", reviewer="Bo"),
    ]
    judged = judge_points(given)
    assert list(judged.itertuples(index=False, name=None)) == [
        ("a", "no", 1, 1.0), ("b", "yes", 3, 2 / 3), ("c", "unsure", 2, 0.0),
    ]  # fmt: skip
    assert judge_points([]).dtypes.astype(str).to_dict() == judged.dtypes.astype(str).to_dict()

"""Sites are followed from year to year, through gaps, splits and mergers."""

import geopandas as gpd
import pandas as pd

from darts_assets.inventory.site_parameters import FollowParameters, InventoryParameters
from darts_assets.inventory.slumps import Followed, follow
from darts_assets.inventory.yearly_inventory import empty_inventory
from tests.inventory.planted import Planted, brought_to, square


def sites(year: int, *shapes: object) -> gpd.GeoDataFrame:
    return brought_to(empty_inventory(year, InventoryParameters()), [Planted(200, list(shapes), year=year)]).sites


def followed(**years: gpd.GeoDataFrame) -> Followed:
    return follow({int(name[1:]): table for name, table in years.items()}, FollowParameters())


def by_year(result: Followed) -> dict[int, list[tuple[str, str]]]:
    """Year -> slump and event of its sites, by area."""
    table = result.sites.sort_values(["year", "area_ha"], ascending=[True, False])
    return {year: list(zip(group["slump_id"], group["event"], strict=True)) for year, group in table.groupby("year")}


def test_a_slump_keeps_its_id_also_through_a_year_without_it() -> None:
    grown = sites(2023, square(-20, 0, 140))
    result = followed(y2020=sites(2020, square(0, 0)), y2021=sites(2021), y2023=grown)
    (slump,) = result.slumps.itertuples()
    assert slump.slump_id.startswith("rts-2020-")
    assert by_year(result) == {2020: [(slump.slump_id, "new")], 2023: [(slump.slump_id, "continued")]}
    assert (slump.first_year, slump.last_year, slump.years_seen, slump.seen) == (2020, 2023, 2, 2)
    assert (round(slump.first_area_ha, 2), round(slump.last_area_ha, 2)) == (1.0, 1.96)
    assert slump.geometry.equals(grown.geometry[0])


def test_of_a_slump_that_splits_the_larger_part_goes_on() -> None:
    result = followed(y2020=sites(2020, square(0, 0, 200)), y2021=sites(2021, square(0, 0, 120), square(140, 140, 60)))
    ((whole, _),) = by_year(result)[2020]
    (large, small) = by_year(result)[2021]
    assert large == (whole, "split")
    assert small[1] == "split"
    assert small[0].startswith("rts-2021-")
    assert dict(zip(result.slumps["slump_id"], result.slumps["split_from"], strict=True)) == {
        whole: "",
        small[0]: whole,
    }


def test_of_slumps_that_merge_the_one_that_shares_most_goes_on_and_the_others_end() -> None:
    result = followed(
        y2020=sites(2020, square(0, 0, 120), square(140, 140, 60)),
        y2021=sites(2021, square(0, 0, 200)),
        y2022=sites(2022, square(0, 0, 200)),
    )
    (large, _), (small, _) = by_year(result)[2020]
    assert by_year(result)[2021] == [(large, "merged")]
    assert by_year(result)[2022] == [(large, "continued")]  # what has ended is not met again
    merged = result.sites[result.sites["year"] == 2021]
    assert merged["predecessors"].iloc[0] == ",".join(sorted([large, small]))
    ends = result.slumps.set_index("slump_id")
    assert ends.loc[small, "merged_into"] == large
    assert (ends.loc[small, "last_year"], ends.loc[large, "last_year"]) == (2020, 2022)


def test_parts_may_split_off_and_merge_at_once() -> None:
    result = followed(
        y2020=sites(2020, square(0, 0, 200), square(300, 0, 100)),
        y2021=sites(2021, square(0, 0, 90), square(120, 0, 280)),
    )
    events = dict(by_year(result)[2021])
    assert sorted(events.values()) == ["split", "split and merged"]
    assert len(result.slumps) == 3


def test_the_order_of_years_and_of_rows_does_not_matter() -> None:
    years = {
        year: sites(year, *(square(300 * n + 10 * (year - 2020), 0, 100) for n in range(5)))
        for year in (2020, 2021, 2022)
    }
    forwards = follow(years, FollowParameters())
    turned = {year: years[year].iloc[::-1] for year in reversed(years)}
    backwards = follow(turned, FollowParameters())
    for name in ("sites", "slumps"):
        pd.testing.assert_frame_equal(getattr(forwards, name), getattr(backwards, name))
    assert len(forwards.slumps) == 5


def test_no_years_at_all() -> None:
    nothing = follow({}, FollowParameters())
    assert (len(nothing.sites), len(nothing.slumps)) == (0, 0)
    assert set(nothing.slumps.columns) > {"slump_id", "geometry"}
    assert nothing.slumps.dtypes["first_year"] == "int64"

"""Sites are followed from year to year, through gaps, splits and mergers."""

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from darts_assets.inventory.site_parameters import FollowParameters, InventoryParameters
from darts_assets.inventory.slumps import Followed, follow
from darts_assets.inventory.yearly_inventory import empty_inventory
from tests.inventory.planted import Planted, Tables, brought_to, square


def sites(year: int, *shapes: object) -> gpd.GeoDataFrame:
    return brought_to(empty_inventory(year, InventoryParameters()), [Planted(200, list(shapes), year=year)]).sites


def followed(**years: gpd.GeoDataFrame) -> Followed:
    return of_sites({int(name[1:]): table for name, table in years.items()})


def of_sites(years: dict[int, gpd.GeoDataFrame]) -> Followed:
    """Slumps of the sites of years whose scenes observe nothing else."""
    nothing = empty_inventory(0, InventoryParameters()).scenes
    return follow(years, dict.fromkeys(years, nothing), Tables([]).observed, FollowParameters())


def of_scenes(scenes: list[Planted], **parameters: float) -> Followed:
    """Slumps of scenes of several years."""
    tables = Tables(scenes)
    inventories = {
        year: brought_to(empty_inventory(year, InventoryParameters()), [each for each in scenes if each.year == year])
        for year in range(min(each.year for each in scenes), max(each.year for each in scenes) + 1)
    }
    sites = {year: inventory.sites for year, inventory in inventories.items()}
    looks = {year: inventory.scenes for year, inventory in inventories.items()}
    return follow(sites, looks, tables.observed, FollowParameters(**parameters))


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
    forwards = of_sites(years)
    turned = {year: years[year].iloc[::-1] for year in reversed(years)}
    backwards = of_sites(turned)
    for name in ("sites", "slumps"):
        pd.testing.assert_frame_equal(getattr(forwards, name), getattr(backwards, name))
    assert len(forwards.slumps) == 5


def test_no_years_at_all() -> None:
    nothing = of_sites({})
    assert (len(nothing.sites), len(nothing.slumps)) == (0, 0)
    assert set(nothing.slumps.columns) > {"slump_id", "geometry"}
    assert nothing.slumps.dtypes["first_year"] == "int64"


def test_years_that_look_without_a_detection_are_observable() -> None:
    looks_and_hits = {2020: (3, 2), 2021: (6, 0), 2022: (5, 0), 2023: (4, 1), 2024: (2, 0)}
    scenes = [
        Planted(180 + number, [square(0, 0)] if number < hits else [], year=year)
        for year, (looks, hits) in looks_and_hits.items()
        for number in range(looks)
    ]
    (slump,) = of_scenes(scenes[:18]).slumps.itertuples()
    assert (slump.seen, slump.observable, slump.years_seen, slump.years_observable) == (3, 18, 2, 4)
    # After its last year a slump can still be observed, before its first year it need not have existed.
    before = [Planted(180, [], year=2018), Planted(180, [square(3000, 0)], year=2019)]
    slumps = of_scenes([*before, *scenes]).slumps
    assert list(zip(slumps["seen"], slumps["observable"], slumps["years_observable"], strict=True)) == [
        (1, 21, 6), (3, 20, 5)
    ]  # fmt: skip


def test_a_scene_in_a_year_without_detection_observes_if_it_covers_enough() -> None:
    def observable(extent: object, **parameters: float) -> int:
        scenes = [Planted(180, [square(0, 0)], year=2020), Planted(180, [], extent, year=2021)]
        (slump,) = of_scenes(scenes, **parameters).slumps.itertuples()
        assert slump.years_observable == slump.observable
        return slump.observable

    assert observable(None) == 1
    assert observable(square(-930, -900, 1000)) == 2  # 70 %
    assert observable(square(-970, -900, 1000)) == 1  # 30 %
    assert observable(square(-970, -900, 1000), min_coverage=0.2) == 2


def test_a_slump_that_merged_is_observed_until_then() -> None:
    small, large, both = square(140, 140, 60), square(0, 0, 120), square(0, 0, 200)
    scenes = [
        Planted(180, [large, small], year=2020), Planted(180, [], year=2021), Planted(180, [both], year=2022),
        Planted(180, [], year=2023),
    ]  # fmt: skip
    slumps = of_scenes(scenes).slumps.sort_values("first_area_ha")
    assert list(zip(slumps["seen"], slumps["observable"], strict=True)) == [(1, 2), (2, 4)]


def test_growth_of_a_slump() -> None:
    scenes = [
        Planted(day, [shapely.union(square(0, 0, 100), square(0, 100 * step, 100))], year=year)
        for year, step in ((2020, 0), (2021, 0.5), (2022, 0.5))
        for day in (180, 190, 200, 210)
    ]
    result = of_scenes(scenes).sites.set_index("year")
    # 366 and 365 days lie between the middles of the years.
    assert result["change"].tolist() == ["", "grown", "uncertain"]
    assert result.loc[2021, "rate_ha_per_year"] == pytest.approx(0.5 / (366 / 365.25), rel=5e-3)
    assert result.loc[2021, "retreat_m_per_year"] == pytest.approx(50 / (366 / 365.25), rel=0.03)
    assert result.loc[2022, "rate_ha_per_year"] == pytest.approx(0, abs=1e-6)
    assert result["rate_low_ha_per_year"].iloc[1] > 0 > result["rate_low_ha_per_year"].iloc[2]


def test_slumps_of_sensors_that_are_apart_continue_within_a_family() -> None:
    here, wide = square(0, 0), square(0, 0, 140)
    scenes = [
        Planted(180, [here], year=2020), Planted(190, [wide], year=2020, family="planet"),
        Planted(180, [here], year=2021), Planted(190, [wide], year=2021, family="planet"),
        Planted(180, [here], year=2022), Planted(190, [], year=2022, family="planet"),
    ]  # fmt: skip
    inventories = {
        year: brought_to(
            empty_inventory(year, InventoryParameters(sensors="apart")), [each for each in scenes if each.year == year]
        )
        for year in (2020, 2021, 2022)
    }
    sites, looks = ({year: getattr(each, name) for year, each in inventories.items()} for name in ("sites", "scenes"))
    apart = follow(sites, looks, Tables(scenes).observed, FollowParameters(sensors="apart"))
    assert apart.sites.groupby(["families", "year"])["event"].agg(list).to_dict() == {
        ("planet", 2020): ["new"], ("planet", 2021): ["continued"], ("sentinel2", 2020): ["new"],
        ("sentinel2", 2021): ["continued"], ("sentinel2", 2022): ["continued"],
    }  # fmt: skip
    assert apart.sites["year"].is_monotonic_increasing
    assert sorted(apart.slumps[["seen", "observable"]].to_numpy().tolist()) == [[2, 3], [3, 3]]
    assert apart.observers[["year", "scenes"]].to_numpy().tolist() == [[2022, scenes[-1].id]]
    assert apart.sites.crs == apart.slumps.crs == sites[2020].crs
    together = follow(sites, looks, Tables(scenes).observed, FollowParameters())
    assert set(together.sites.loc[together.sites["year"] == 2021, "event"]) == {"split and merged"}
    empty = follow(
        {2020: sites[2020].iloc[:0]}, {2020: looks[2020]}, Tables([]).observed, FollowParameters(sensors="apart")
    )
    assert (len(empty.sites), len(empty.slumps), len(empty.observers)) == (0, 0, 0)
    assert empty.slumps.dtypes.astype(str).to_dict() == apart.slumps.dtypes.astype(str).to_dict()

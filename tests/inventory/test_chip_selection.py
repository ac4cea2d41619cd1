"""Which scene shows a slump in a year."""

import geopandas as gpd
import pandas as pd

from darts_assets.inventory.chip_selection import DETECTION_FACTS, SCENE_FACTS, select_chips
from darts_assets.inventory.site_parameters import FollowParameters, InventoryParameters
from darts_assets.inventory.slumps import follow
from darts_assets.inventory.yearly_inventory import empty_inventory
from tests.inventory.planted import Planted, Tables, brought_to, square


def selected(*scenes: Planted) -> gpd.GeoDataFrame:
    years = {
        year: brought_to(empty_inventory(year, InventoryParameters()), [each for each in scenes if each.year == year])
        for year in sorted({each.year for each in scenes})
    }
    sites, looks = ({year: getattr(of, name) for year, of in years.items()} for name in ("sites", "scenes"))
    followed = follow(sites, looks, Tables(list(scenes)).observed, FollowParameters())
    detections = pd.concat([of.detections[list(DETECTION_FACTS)] for of in years.values()])
    return select_chips(
        followed.sites,
        followed.observers,
        detections,
        pd.concat([of.scenes[list(SCENE_FACTS)] for of in years.values()]),
    )


def test_each_year_with_an_observing_scene_has_a_row() -> None:
    seen, missed, back = (
        Planted(200, [square(0, 0)], year=2020),
        [Planted(day, [], year=2022) for day in (170, 205, 240)],
        Planted(190, [square(0, 0, 120)], year=2024),
    )
    clouded = Planted(201, [], clouds=square(-5000, -5000, 10_000), year=2023)
    elsewhere = Planted(201, [], extent=square(3000, 3000), year=2021)
    rows = selected(seen, *missed, clouded, elsewhere, back)
    assert list(rows["year"]) == [2020, 2022, 2024], "2021 looked elsewhere, 2023 was clouded"
    assert rows["slump_id"].nunique() == 1
    assert list(rows["detected"]) == [True, False, True]
    assert list(rows["scene_id"]) == [seen.id, missed[1].id, back.id], "in 2022 the scene of the same season"
    assert list(rows["region_id"]) == [1, 0, 1]
    assert list(rows["site_id"].str[:8]) == ["rts-2020", "", "rts-2024"]
    areas = rows.geometry.area.round(-2)
    assert list(areas) == [10_000, 10_000, 14_400], "2022 has the outline of 2020"
    assert list(rows["family"]) == ["sentinel2"] * 3
    assert list(rows["data_version"]) == ["1"] * 3
    assert rows.crs.to_epsg() == 6931


def test_the_best_detection_is_large_probable_and_whole() -> None:
    scenes = [
        Planted(180, [(square(0, 0, 100), 0.9, False)]),
        Planted(185, [(square(5000, 0, 10), 0.9, False), (square(0, 0, 110), 0.8, False)]),
        Planted(190, [(square(0, 0, 130), 0.9, True)]),
    ]
    rows = selected(*scenes)
    best = rows[rows["scene_id"] != ""].iloc[rows.geometry.area.argmax()]
    assert (best["scene_id"], best["region_id"]) == (scenes[1].id, 2)


def test_nothing_was_observed() -> None:
    assert len(selected(Planted(180, []))) == 0

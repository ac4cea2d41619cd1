"""What people may ask for, what it means, and what they are told when it makes no sense; no service is asked."""

import datetime as dt
import itertools
import json
import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import shapely
from pyproj import CRS, Transformer

from darts_assets.errors import SceneError, SettingsError
from darts_assets.geo.antimeridian import footprint, lonlat_area
from darts_assets.sources.stac.acquisitions import newest, within_covers
from darts_assets.sources.stac.queries import Query, request_area
from darts_assets.sources.stac.scene_ids import MalformedIdsError, by_provider, tile_ids
from darts_assets.sources.stac.scene_selection import Interval, SceneFilter, Selection
from darts_assets.sources.stac.services import CDSE, EARTH_SEARCH

TODAY = dt.date(2017, 5, 4)


def months(*pairs: tuple[str, str]) -> tuple[Interval, ...]:
    return tuple(tuple(dt.datetime.fromisoformat(f"{day}T00:00Z") for day in pair) for pair in pairs)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ()),
        ({"years": (2021,)}, months(("2021-01-01", "2022-01-01"))),
        ({"years": (2023, 2021, 2022)}, months(("2021-01-01", "2024-01-01"))),
        ({"months": (7, 8), "years": (2022, 2020)}, months(("2020-07-01", "2020-09-01"), ("2022-07-01", "2022-09-01"))),
        ({"months": (8, 6), "years": (2020,)}, months(("2020-06-01", "2020-07-01"), ("2020-08-01", "2020-09-01"))),
        ({"months": (12, 1), "years": (2020, 2021)},
         months(("2020-01-01", "2020-02-01"), ("2020-12-01", "2021-02-01"), ("2021-12-01", "2022-01-01"))),
        ({"months": (7,)}, months(*((f"{year}-07-01", f"{year}-08-01") for year in (2015, 2016, 2017)))),
        ({"quarters": (3, 4), "years": (2020, 2021)},
         months(("2020-07-01", "2021-01-01"), ("2021-07-01", "2022-01-01"))),
        ({"start": dt.date(2020, 2, 28), "end": dt.date(2020, 2, 29)}, months(("2020-02-28", "2020-03-01"))),
        ({"start": dt.date(2020, 2, 28)}, ((dt.datetime(2020, 2, 28, tzinfo=dt.UTC), None),)),
        ({"end": dt.date(2020, 12, 31)}, ((None, dt.datetime(2021, 1, 1, tzinfo=dt.UTC)),)),
    ],
)  # fmt: skip
def test_the_fewest_stretches_of_time(wanted: dict[str, Any], expected: tuple[Interval, ...]) -> None:
    assert SceneFilter(**wanted).intervals(TODAY) == expected


def test_days_win_over_months_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "darts_assets"):
        wanted = SceneFilter(start=dt.date(2020, 1, 1), end=dt.date(2020, 1, 1), months=(7,), years=(2019,))
    assert wanted.intervals(TODAY) == months(("2020-01-01", "2020-01-02"))
    assert "start and end override months and years: (7,) and (2019,) are ignored" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_cloud_cover": 101}, r"max_cloud_cover is 101; a percentage from 0 to 100 was expected \(100 = off\)"),
        ({"max_snow_cover": -1}, "max_snow_cover is -1"),
        ({"max_snow_cover": float("nan")}, "max_snow_cover is nan"),
        ({"months": (0, 7, 13)}, r"months: \[0, 13\] out of range; numbers from 1 to 12 were expected"),
        ({"years": (2014, 20233)}, r"years: \[2014, 20233\] out of range; numbers from 2015 to 2100"),
        ({"quarters": (5,)}, r"quarters: \[5\]"),
        ({"months": (1,), "quarters": (1,)}, "set only one of them"),
        ({"start": dt.date(2020, 2, 2), "end": dt.date(2020, 2, 1)}, "start 2020-02-02 is later than end 2020-02-01"),
        ({"baseline": "5.10"}, "baseline '5.10': a processing baseline such as 05.10 was expected"),
        ({"published_since": dt.datetime(2020, 1, 1)}, "has no time zone"),
    ],
)
def test_filters_that_make_no_sense(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        SceneFilter(**wrong)


def test_exactly_one_way_of_choosing() -> None:
    with pytest.raises(SettingsError, match="set exactly one of scene ids, tiles and area, not 0"):
        Selection()
    with pytest.raises(SettingsError, match="not 2: tiles, area"):
        Selection(tiles=["33UUP"], area=shapely.box(0, 60, 1, 61))


@pytest.mark.parametrize(
    ("area", "said"),
    [
        (shapely.Polygon(), "the area is empty"),
        (shapely.Polygon([(0, 70), (1, 71), (1, 70), (0, 71)]), "the area is invalid"),
        (shapely.box(170, 60, 190, 61), r"spans longitudes 170\.\.190.*cut at the antimeridian, was expected"),
        (shapely.box(500_000, 7_000_000, 500_001, 7_000_001), "EPSG:4326"),
    ],
)
def test_areas_that_make_no_sense(area: shapely.Geometry, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Selection(area=area)


IDS = {
    "cdse": "S2A_MSIL2A_20230615T123456_N0509_R012_T33UUP_20230615T145678",
    "earth_search": "S2A_33UUP_20230615_0_L2A",
    "earth_engine": "20230701T194909_20230701T195350_T11XNA",
    "cdse_mosaic": "Sentinel-2_mosaic_2024_Q3_33UUP_0_0",
}


def test_the_provider_of_an_id() -> None:
    assert list(by_provider(["S2C_8WMB_20250615_12_L2A"])) == ["earth_search"]
    assert by_provider([*IDS.values(), *IDS.values()]) == {name: [scene_id] for name, scene_id in IDS.items()}


@pytest.mark.parametrize(
    "scene_id",
    [
        "", "33UUP", "S2A_MSIL1C_20230615T123456_N0509_R012_T33UUP_20230615T145678", IDS["cdse"] + ".zip",
        "S2A_MSIL2A_20230615T123456_N0509_R012_T61UUP_20230615T145678", "S2A_33IUP_20230615_0_L2A",
        "Sentinel-2_mosaic_2024_Q5_33UUP_0_0", "../../etc/passwd", "20230701_194909_00_2424",
    ],
)  # fmt: skip
def test_malformed_ids(scene_id: str) -> None:
    with pytest.raises(MalformedIdsError) as raised:
        by_provider([IDS["cdse"], scene_id, IDS["earth_engine"]])
    assert raised.value.wrong == (scene_id,)
    assert raised.value.understood == {"cdse": (IDS["cdse"],), "earth_engine": (IDS["earth_engine"],)}
    assert f"1 malformed scene id(s): {scene_id!r}. Expected the form of one of: S2A_MSIL2A_" in str(raised.value)
    with pytest.raises(MalformedIdsError):
        Selection(scene_ids=[IDS["cdse"], scene_id])


def test_ids_with_blanks_and_the_suffix_of_a_folder() -> None:
    pasted = [f" {IDS['cdse']}.SAFE/\n", f"{IDS['cdse']}.SAFE", f"\t{IDS['earth_engine']} "]
    assert by_provider(pasted) == {"cdse": [IDS["cdse"]], "earth_engine": [IDS["earth_engine"]]}
    assert Selection(scene_ids=pasted).scene_ids == (IDS["cdse"], IDS["earth_engine"])


def test_tiles() -> None:
    assert tile_ids(["33UUP", "T33UUP", "MGRS-8WMB", "08wmb", " 01WCP "]) == ("33UUP", "08WMB", "01WCP")
    with pytest.raises(
        SceneError, match=r"3 malformed tile id\(s\): '61UUP', 'Greenland', '33OUP'\. Expected .* 33UUP"
    ):
        Selection(tiles=["33UUP", "61UUP", "Greenland", "33OUP"])


def product(
    baseline: str, made: str, datastrip: str = "20230615T123450", sensed: str = "20230615T123456"
) -> dict[str, Any]:
    time = dt.datetime.strptime(sensed, "%Y%m%dT%H%M%S")
    return {
        "id": f"S2A_MSIL2A_{sensed}_N{baseline}_R012_T33UUP_{made}",
        "properties": {
            "datetime": f"{time:%Y-%m-%dT%H:%M:%SZ}",
            "eopf:datastrip_id": f"S2A_OPER_MSI_L2A_DS_2BPS_{made}_S{datastrip}_N{baseline}",
        },
    }


def test_the_newest_of_an_acquisition_in_any_order() -> None:
    """The newest baseline wins, then the latest product; two datastrips of one acquisition complete each other."""
    first, second = "20230615T123450", "20230615T123730"
    items = [
        product("0301", "20230615T145300"), product("0500", "20240101T000000", "20230615T123451"),
        best := product("0510", "20250101T000000", first), product("0510", "20241231T235959", first),
        rest := product("0510", "20250101T000500", second), product("0510", "20240601T000000", second),
        other := product("0301", "20230616T000000", sensed="20230615T141500"),
    ]  # fmt: skip
    for seed in range(20):
        shuffled = random.Random(seed).sample(items[:-1], 6)
        for given in ([other, *shuffled], [*shuffled, other]):
            ids = [item["id"] for item in newest(given)]
            assert sorted(ids) == sorted(item["id"] for item in (best, rest, other))


def part(made: str, west: float, east: float, baseline: str = "0500") -> dict[str, Any]:
    """A product without datastrip, and its footprint."""
    made_item = product(baseline, made)
    del made_item["properties"]["eopf:datastrip_id"]
    return {**made_item, "geometry": shapely.geometry.mapping(shapely.box(west, 70, east, 71))}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([part("20240101T000000", 0, 1), part("20240101T000500", 0.95, 3)], (0, 1)),
        ([part("20240101T000000", 0, 1), part("20240102T000000", 0, 1.1)], (1,)),
        ([part("20240101T000000", 0, 3), part("20240102T000000", 0, 1)], (1,)),
        ([part("20240101T000000", 0, 1), part("20240101T000500", 1, 3), part("20240102T000000", 0, 3)], (2,)),
        ([part("20240101T000000", 0, 1), part("20240101T000500", 1, 3, "0509")], (1,)),
        ([part("20240101T000000", 0, 1), {**part("20240102T000000", 1, 3), "geometry": None}], (1,)),
    ],
    ids=["two parts", "a later version", "of less ground", "of both parts", "a newer baseline", "no footprint"],
)
def test_parts_of_an_acquisition_without_datastrips(items: list[dict[str, Any]], expected: tuple[int, ...]) -> None:
    for given in itertools.permutations(items):
        assert sorted(item["id"] for item in newest(given)) == sorted(items[index]["id"] for index in expected)


def test_covers_that_are_unknown_are_counted() -> None:
    covers = [("cloud", 10.0), ("snow", 20.0)]
    values = [(10, 20), (10.1, 0), (0, 20.1), (None, 5), (5, None), (float("nan"), 5), (11, None), ("5", 5), (0, 0)]
    items = [{"id": str(n), "properties": {"cloud": c, "snow": s}} for n, (c, s) in enumerate(values)]
    unknown: Counter[str] = Counter()
    assert [item["id"] for item in within_covers(items, covers, unknown)] == ["0", "8"]
    assert unknown == {"cloud": 3, "snow": 1}, "not the one with 11 % of clouds"
    assert list(within_covers(items, [])) == items


def test_the_service_filters_covers_only_of_a_feed() -> None:
    """In a search, the newest processing of an acquisition may have more clouds than an older one."""
    since = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    for service in (CDSE, EARTH_SEARCH):
        for published_since, asked in ((None, False), (since, True)):
            selection = Selection(tiles=["33UUP"], filter=SceneFilter(published_since=published_since))
            (body,) = Query(service, selection, TODAY).bodies()
            assert ("cloud_cover" in json.dumps(body)) == asked


def test_a_feed_keeps_its_order() -> None:
    """Nothing is held, so that nothing comes later than what was published after it; outdated ones are left out."""
    times = ("100000", "100400", "100700", "100000", "120000")
    items = [product("0301", f"20230616T00000{n}", sensed=f"20230615T{time}") for n, time in enumerate(times)]
    outdated = product("0214", "20230617T000000", sensed="20230615T100400")
    assert list(newest([*items, outdated], hold=False)) == items


def test_what_is_not_named_as_a_product_is_left_alone() -> None:
    twins = [{"id": f"S2A_33UUP_20230615_{n}_L2A", "properties": {}} for n in range(2)]
    assert list(newest(iter(twins))) == twins


def test_a_newer_one_that_comes_too_late_is_given_and_told(caplog: pytest.LogCaptureFixture) -> None:
    old, between, new = (
        product("0301", "20230615T145300"), product("0301", "20230616T000000", sensed="20230615T141500"),
        product("0510", "20250101T000000"),
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "darts_assets"):
        assert list(newest([old, between, new, old])) == [old, between, new]
    assert f"{new['id']} came after an older processing" in caplog.text


def points_in(area: shapely.Geometry, crs: CRS, wanted: Callable[[Any, Any], Any]) -> None:
    """Points all over the north are in the area in longitudes and latitudes where they are in the other CRS."""
    generator = np.random.default_rng(1)
    lon, lat = generator.uniform(-180, 180, 3000), generator.uniform(55, 90, 3000)
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    assert (shapely.contains_xy(area, lon, lat) == wanted(x, y)).all()


@pytest.mark.parametrize(
    "shape",
    [
        shapely.box(-1_000_000, -1_500_000, 800_000, 700_000),
        shapely.box(-1_500_000, 500_000, -500_000, 1_500_000),
        shapely.Point(0, 0).buffer(2_500_000) - shapely.Point(0, 0).buffer(1_000_000),
        shapely.Point(-900_000, 900_000).buffer(600_000) - shapely.Point(-900_000, 900_000).buffer(200_000),
        shapely.MultiPolygon([shapely.box(-2e6, 1e6, -1e6, 2e6), shapely.box(1e6, -2e6, 2e6, -1e6)]),
    ],
    ids=["around the pole", "across the antimeridian", "a ring around the pole", "a hole there", "two parts"],
)
def test_areas_of_the_polar_projection(shape: shapely.Geometry) -> None:
    area = lonlat_area(shape, CRS(3413))
    assert area.is_valid
    points_in(area, CRS(3413), lambda x, y: shapely.contains_xy(shape, x, y))
    assert Selection(area=area).area is area


def test_areas_whose_longitudes_go_on() -> None:
    """As areas of interest are read: past 180 degrees where they cross the antimeridian."""
    area = lonlat_area(shapely.box(175, 60, 190, 70), CRS(4326))
    assert area.equals(shapely.union_all([shapely.box(175, 60, 180, 70), shapely.box(-180, 60, -170, 70)]))
    nad83 = lonlat_area(shapely.box(175, 60, 190, 70), CRS(4269))
    assert nad83.symmetric_difference(area).area < 1e-3
    world = shapely.box(-180, -90, 180, 90)
    assert lonlat_area(world, CRS(4326)).equals(world)
    assert lonlat_area(shapely.Point(10, 60), CRS(4326)).contains(shapely.Point(10, 60))
    assert Selection(area=lonlat_area(shapely.Point(180, 60), CRS(4326)))


def test_what_cannot_be_projected() -> None:
    with pytest.raises(SettingsError, match="cannot be projected from WGS 84 / UTM zone 8N"):
        lonlat_area(shapely.box(1e9, 1e9, 1e9 + 1000, 1e9 + 1000), CRS(32608))


def test_footprints() -> None:
    """What spans the globe crosses the antimeridian; what crosses itself is repaired; what is none is none."""
    across = [(178, 65), (-179, 65), (-179, 66), (178, 66), (178, 65)]
    whole = footprint({"type": "Polygon", "coordinates": [across]})
    assert whole is not None
    assert whole.equals(shapely.union_all([shapely.box(178, 65, 180, 66), shapely.box(-180, 65, -179, 66)]))
    bow_tie = footprint({"type": "Polygon", "coordinates": [[(0, 70), (1, 71), (1, 70), (0, 71), (0, 70)]]})
    assert bow_tie is not None
    assert bow_tie.is_valid
    assert bow_tie.area == pytest.approx(0.5)
    broken = {"type": "Polygon", "coordinates": [[(0, 70), ("x", 71)]]}
    assert [footprint(geometry) for geometry in (None, {}, {"type": "Polygon", "coordinates": []}, broken)] == [
        None
    ] * 4


def test_services_are_asked_for_more_in_fewer_vertices() -> None:
    islands = shapely.MultiPolygon(
        [shapely.Point(x, y).buffer(0.05) for x, y in itertools.product(range(-30, 30, 2), range(60, 80))]
    )
    asked = request_area(islands)
    assert shapely.get_num_coordinates(asked) <= 1000
    assert asked.covers(islands)
    assert asked.area < 2 * islands.envelope.area
    assert request_area(shapely.box(0, 60, 1, 61)).equals(shapely.box(0, 60, 1, 61))

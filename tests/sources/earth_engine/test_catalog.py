"""Scenes that a local Earth Engine finds equal those that the same filters choose in plain Python."""

import datetime as dt
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pystac
import pystac.validation
import pytest
import shapely
from shapely.geometry import shape

from darts_assets.earth_engine import EarthEngineOptions
from darts_assets.errors import SceneError, SettingsError, SourceUnavailableError
from darts_assets.remote import retry
from darts_assets.sources.earth_engine.catalog import EarthEngineCatalog
from darts_assets.sources.earth_engine.source import EarthEngineScenes
from darts_assets.sources.stac.scene_ids import UnknownScenesError
from darts_assets.sources.stac.scene_selection import SceneFilter, Selection
from tests.servers.earth_engine.scenes import HARMONIZED, ORIGINAL, Scene, collections, polygon, ring
from tests.servers.earth_engine.server import TOO_MANY, EarthEngineServer, Fault, connected


def at(*date: int) -> dt.datetime:
    return dt.datetime(*date, tzinfo=dt.UTC)  # type: ignore[arg-type, misc]


TWICE = at(2023, 7, 20, 20, 10, 19)
IN_TWO_PARTS = at(2023, 8, 2, 20, 30, 21)
SCENES = {
    "old": Scene(at(2019, 8, 9, 20, 8, 51), "08WNB", "02.13"),
    "old, processed again": Scene(at(2019, 8, 11, 20, 18, 49), "08WNB", "05.00"),
    "cloudy": Scene(at(2021, 7, 10, 20, 8, 51), "08WNB", "03.01", cloud=60.5),
    "at the limit": Scene(at(2021, 7, 13, 20, 18, 49), "08WNB", "03.01", cloud=10.0, snow=10.0),
    "snowy": Scene(at(2021, 9, 30, 20, 18, 49), "08WMB", "03.01", snow=55.0),
    "snow unknown": Scene(at(2021, 8, 2, 20, 8, 51), "08WMB", "03.01", snow=None),
    "before 1000 is added": Scene(at(2022, 1, 24, 20, 11, 1), "08WMB", "03.01", zenith=88.5),
    "1000 is added": Scene(at(2022, 1, 25, 20, 41, 1), "08WMB", "04.00", zenith=88.25),
    "baseline unknown": Scene(at(2022, 7, 1, 20, 8, 51), "08WMB", None),
    "begun in June": Scene(at(2022, 6, 30, 23, 58, 51), "08WNB", "04.00"),
    "processed first": Scene(TWICE, "08WNB", "05.00", made=at(2023, 7, 21)),
    "processed last": Scene(TWICE, "08WNB", "05.10", datastrip=at(2023, 7, 20, 20, 10, 22), made=at(2024, 5, 1)),
    "first part": Scene(IN_TWO_PARTS, "08WNB", "05.09"),
    "second part": Scene(IN_TWO_PARTS, "08WNB", "05.09", datastrip=at(2023, 8, 2, 20, 34, 5)),
    "east": Scene(at(2023, 8, 5, 23, 51, 1), "60WWT", footprint=ring(polygon(178.2, 66, 180.7, 67))),
    "west": Scene(at(2023, 8, 6, 23, 1, 1), "01WCS", footprint=polygon(179.6, 66.1, 182.3, 67.1)),
    "elsewhere": Scene(at(2023, 8, 7, 9, 31, 1), "42WWA", footprint=polygon(68, 70, 70.5, 71)),
}
OUTLINES = {
    "east": [polygon(178.2, 66, 180, 67), polygon(-180, 66, -179.3, 67)],
    "west": [polygon(179.6, 66.1, 180, 67.1), polygon(-180, 66.1, -177.7, 67.1)],
    "elsewhere": [polygon(68, 70, 70.5, 71)],
}
TILES = sorted({scene.tile for scene in SCENES.values()})
EVERY = SceneFilter(max_cloud_cover=100, max_snow_cover=100)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF", (0.0, 0.0))
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EarthEngineServer, EarthEngineOptions]]:
    with connected(collections(*SCENES.values()), tmp_path_factory.mktemp("earth_engine")) as (server, options):
        yield server, options


@pytest.fixture
def server(service: tuple[EarthEngineServer, EarthEngineOptions]) -> EarthEngineServer:
    service[0].forget()
    return service[0]


@pytest.fixture
def catalog(server: EarthEngineServer, service: tuple[EarthEngineServer, EarthEngineOptions]) -> EarthEngineCatalog:
    return EarthEngineCatalog(service[1])


@pytest.fixture
def original(server: EarthEngineServer, service: tuple[EarthEngineServer, EarthEngineOptions]) -> EarthEngineCatalog:
    return EarthEngineCatalog(service[1], ORIGINAL)


def names(items: Iterator[dict[str, Any]]) -> list[str]:
    """The scenes of items, as they are called here, in the order of time."""
    called = {scene.index: name for name, scene in SCENES.items()}
    return [called[index] for index in sorted(item["id"] for item in items)]


def chosen(keep: Callable[[Scene], bool] = lambda scene: True) -> list[str]:
    """The scenes that a test keeps, in the order of time; of an acquisition the newest processing."""
    kept = {name: scene for name, scene in SCENES.items() if keep(scene) and name != "processed first"}
    return sorted(kept, key=lambda name: kept[name].index)


def month(scene: Scene) -> tuple[int, int]:
    """When the tile was sensed, which is after its datatake has begun."""
    sensed = dt.datetime.fromtimestamp(scene.properties["system:time_start"] / 1000, dt.UTC)
    return sensed.year, sensed.month


FEW = {"max_cloud_cover": 100, "max_snow_cover": 100}


@pytest.mark.parametrize(
    ("wanted", "keep"),
    [
        (EVERY, lambda scene: True),
        (SceneFilter(), lambda scene: scene.cloud <= 10 and scene.snow is not None and scene.snow <= 10),
        (SceneFilter(max_snow_cover=100), lambda scene: scene.cloud <= 10),
        (SceneFilter(max_cloud_cover=100), lambda scene: scene.snow is not None and scene.snow <= 10),
        (SceneFilter(years=(2021, 2023), **FEW), lambda scene: month(scene)[0] in (2021, 2023)),
        (SceneFilter(months=(7,), **FEW), lambda scene: month(scene)[1] == 7),
        (SceneFilter(months=(1, 8), years=(2022, 2023), **FEW), lambda scene: month(scene) in ((2022, 1), (2023, 8))),
        (SceneFilter(start=dt.date(2022, 1, 25), **FEW), lambda scene: scene.sensed >= at(2022, 1, 25)),
        (SceneFilter(end=dt.date(2022, 1, 24), **FEW), lambda scene: scene.sensed < at(2022, 1, 25)),
        (
            SceneFilter(start=dt.date(2021, 7, 10), end=dt.date(2021, 7, 10), **FEW),
            lambda scene: scene.sensed.date() == dt.date(2021, 7, 10),
        ),
        (SceneFilter(baseline="03.01", **FEW), lambda scene: scene.baseline == "03.01"),
    ],
    ids=[
        "every",
        "default",
        "clouds",
        "snow",
        "years",
        "months",
        "months of years",
        "start",
        "end",
        "a day",
        "baseline",
    ],
)
def test_filters(
    server: EarthEngineServer, catalog: EarthEngineCatalog, wanted: SceneFilter, keep: Callable[[Scene], bool]
) -> None:
    found = names(catalog.search(Selection(tiles=TILES, filter=wanted)))
    assert found == chosen(keep)
    assert 0 < len(found) <= len(SCENES)
    assert server.requests.count("computeFeatures") == 1


def test_an_older_baseline_can_be_asked_for(catalog: EarthEngineCatalog) -> None:
    assert names(catalog.search(Selection(tiles=["8WNB"], filter=SceneFilter(baseline="05.00", **FEW)))) == [
        "old, processed again", "processed first",
    ]  # fmt: skip


def test_tiles(catalog: EarthEngineCatalog) -> None:
    found = names(catalog.search(Selection(tiles=["T60WWT", "8WMB"], filter=EVERY)))
    assert found == chosen(lambda scene: scene.tile in ("60WWT", "08WMB"))


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        (shapely.box(69, 70.5, 69.1, 70.6), ["elsewhere"]),
        (shapely.box(-180, -90, 180, 90), chosen()),
        (shapely.MultiPolygon([shapely.box(179.9, 66, 180, 67), shapely.box(-180, 66, -179.9, 67)]), ["east", "west"]),
        (shapely.box(-180, 66.5, -179.2, 66.6), ["east", "west"]),
        (shapely.box(-179.2, 66.5, -179, 66.6), ["west"]),
        (shapely.box(179, 66.5, 179.5, 66.6), ["east"]),
        (shapely.box(0, 60, 60, 80), []),
    ],
    ids=["one", "the globe", "both sides", "west of both", "west", "east", "none"],
)
def test_areas(catalog: EarthEngineCatalog, area: shapely.Geometry, expected: list[str]) -> None:
    assert names(catalog.search(Selection(area=area, filter=EVERY))) == expected


def test_an_area_of_many_points_is_sent_simplified_and_compared_as_it_is(
    server: EarthEngineServer, catalog: EarthEngineCatalog
) -> None:
    coast = shapely.Point(67, 70.5).buffer(1, quad_segs=10_000)
    almost = shapely.Point(66.9995, 70.5).buffer(1, quad_segs=10_000)  # ends just before the footprint begins
    received: list[int] = []
    for area, expected in ((coast, ["elsewhere"]), (almost, [])):
        found = names(catalog.search(Selection(area=area, filter=EVERY), lambda n, _: received.append(n)))
        assert found == expected
    assert received == [1, 1]
    assert max(len(json.dumps(request)) for request in server.requests.tables) < 200_000


def test_ids(server: EarthEngineServer, catalog: EarthEngineCatalog) -> None:
    wanted = ["processed first", "cloudy", "east", "old"]
    told: list[tuple[int, int | None]] = []
    ids = [SCENES[name].index for name in wanted]
    found = names(catalog.search(Selection(scene_ids=ids), lambda *numbers: told.append(numbers)))
    assert found == sorted(wanted, key=lambda name: SCENES[name].sensed)
    assert told == [(4, 4)]
    assert server.requests.count("computeFeatures") == 1


def test_unknown_ids_are_named_once_all_others_are_given(
    server: EarthEngineServer, catalog: EarthEngineCatalog
) -> None:
    unknown = [f"20{year}1{month}09T200851_20200809T200853_T08WNB" for year in range(10, 60) for month in range(10)]
    unknown += [f"S2A_MSIL2A_20230615T123456_N0509_R012_T33UUP_202306{day}T145312" for day in range(10, 31)]
    unknown += [f"20190809T{second:06d}_20190809T200851_T08WNB" for second in range(900)]
    search = catalog.search(Selection(scene_ids=[*unknown, SCENES["west"].index, SCENES["cloudy"].index]))
    assert names(itertools.islice(search, 2)) == ["cloudy", "west"]
    with pytest.raises(UnknownScenesError, match=rf"{HARMONIZED} does not have {len(unknown)} of") as raised:
        next(search)
    assert list(raised.value.scene_ids) == unknown
    assert server.requests.count("computeFeatures") == 2  # for 1052 ids of days that there are


def test_items_are_those_of_the_stac_specification(catalog: EarthEngineCatalog) -> None:
    for item in catalog.search(Selection(tiles=TILES, filter=EVERY)):
        assert pystac.validation.validate_dict(item, extensions=[])
        assert pystac.Item.from_dict(item).to_dict(include_self_link=False) == item


def test_what_an_item_tells(catalog: EarthEngineCatalog) -> None:
    (item,) = catalog.search(Selection(scene_ids=[SCENES["at the limit"].index]))
    assert item["id"] == "20210713T201849_20210713T201849_T08WNB"
    assert item["collection"] == HARMONIZED
    assert item["properties"] == {
        "datetime": "2021-07-13T20:22:49.026000Z",
        "eo:cloud_cover": 10.0,
        "eo:snow_cover": 10.0,
        "grid:code": "MGRS-08WNB",
        "view:sun_azimuth": 172.5,
        "view:sun_elevation": 39.75,
        "processing:version": "03.01",
        "proj:code": "EPSG:32608",
        "proj:shape": [10980, 10980],
        "proj:transform": [10, 0, 499980, 0, -10, 7500000],
        "s2:product_uri": "S2A_MSIL2A_20210713T201849_N0301_R100_T08WNB_20210714T011849",
        "s2:datastrip_id": "S2A_OPER_MSI_L2A_DS_2APS_20210714T011849_S20210713T201849_N05.09",
    }
    assert item["bbox"] == [-135.0, 66.6, -132.5, 67.6]
    assert item["assets"]["B8A"] == {
        "href": f"ee://{HARMONIZED}/{item['id']}",
        "roles": ["data"],
        "bands": [
            {
                "name": "B8A", "eo:common_name": "nir08", "data_type": "uint16", "nodata": 0, "raster:scale": 0.0001,
                "raster:offset": 0.0,
            }
        ],
    }  # fmt: skip


@pytest.mark.parametrize("name", OUTLINES)
def test_footprints_are_cut_at_the_antimeridian(catalog: EarthEngineCatalog, name: str) -> None:
    (item,) = catalog.search(Selection(scene_ids=[SCENES[name].index]))
    expected = shapely.union_all([shape(part) for part in OUTLINES[name]])
    assert shape(item["geometry"]).symmetric_difference(expected).area < 1e-4
    assert item["bbox"] == pytest.approx({
        "east": [178.2, 66, -179.3, 67], "west": [179.6, 66.1, -177.7, 67.1], "elsewhere": [68, 70, 70.5, 71],
    }[name], abs=1e-4)  # fmt: skip
    assert EarthEngineScenes().parse(item).geometry == item["geometry"]  # it is valid, and not torn


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("old", 0),
        ("old, processed again", -0.1),
        ("before 1000 is added", 0),
        ("1000 is added", -0.1),
        ("baseline unknown", -0.1),
        ("first part", -0.1),
    ],
)
def test_the_offset_is_that_of_the_collection_and_the_processing(
    catalog: EarthEngineCatalog, original: EarthEngineCatalog, name: str, offset: float
) -> None:
    for service, expected in ((catalog, 0), (original, offset)):
        (item,) = service.search(Selection(scene_ids=[SCENES[name].index]))
        scene = EarthEngineScenes().parse(item)
        assert {(band.scale, band.offset) for key, band in scene.bands.items() if key != "s2_scl"} == {(1e-4, expected)}
        assert (scene.bands["s2_scl"].scale, scene.bands["s2_scl"].offset) == (1, 0)
        assert scene.sun_elevation == 90 - SCENES[name].zenith


def test_a_page_that_fails_is_asked_for_again(server: EarthEngineServer, catalog: EarthEngineCatalog) -> None:
    server.fail(TOO_MANY, Fault(cut=True), call="computeFeatures")
    assert names(catalog.search(Selection(tiles=TILES, filter=EVERY))) == chosen()
    assert server.requests.count("computeFeatures") == 3


def test_the_last_words_of_a_service_that_does_not_answer(
    server: EarthEngineServer, catalog: EarthEngineCatalog
) -> None:
    server.fail(TOO_MANY, call="computeFeatures", always=True)
    with pytest.raises(SourceUnavailableError, match=rf"scenes of {HARMONIZED}: Quota exceeded .* after 8 attempts"):
        next(catalog.search(Selection(tiles=TILES)))


def test_a_request_that_is_refused(server: EarthEngineServer, catalog: EarthEngineCatalog) -> None:
    server.fail(Fault(400, "INVALID_ARGUMENT", "Request payload size exceeds the limit."), call="computeFeatures")
    with pytest.raises(SceneError, match=rf"refuses scenes of {HARMONIZED}: Request payload size"):
        next(catalog.search(Selection(tiles=TILES)))
    assert server.requests.count("computeFeatures") == 1


def test_an_answer_without_what_was_asked_for(server: EarthEngineServer, catalog: EarthEngineCatalog) -> None:
    body = json.dumps({"features": [{"type": "Feature", "geometry": None, "properties": {"index": "x"}}]})
    server.fail(Fault(body=body.encode()), call="computeFeatures")
    with pytest.raises(SceneError, match=rf"an image of {HARMONIZED} lacks 'grid'"):
        next(catalog.search(Selection(tiles=TILES)))


def test_what_earth_engine_cannot_be_asked(
    catalog: EarthEngineCatalog, service: tuple[EarthEngineServer, EarthEngineOptions]
) -> None:
    with pytest.raises(SettingsError, match="has no time of publication"):
        catalog.search(Selection(tiles=TILES, filter=SceneFilter(published_since=at(2024, 1, 1))))
    with pytest.raises(SettingsError, match="quarters select mosaics"):
        catalog.search(Selection(tiles=TILES, filter=SceneFilter(quarters=(3,))))
    with pytest.raises(SettingsError, match=rf"'COPERNICUS/S2': {HARMONIZED} or {ORIGINAL} was expected"):
        EarthEngineCatalog(service[1], "COPERNICUS/S2")


@pytest.mark.slow
def test_thousands_of_matches_come_page_by_page(server: EarthEngineServer, catalog: EarthEngineCatalog) -> None:
    begin, count = at(2018, 1, 1), 8_000
    scenes = [Scene(begin + dt.timedelta(minutes=n // 10), f"{n % 60 + 1:02d}WNB") for n in range(count)]
    usual = server.collections
    server.collections = {HARMONIZED: collections(*scenes)[HARMONIZED]}
    told: list[tuple[int, int | None]] = []
    try:
        search = catalog.search(
            Selection(area=shapely.box(-134, 67, -133, 67.1)), lambda *numbers: told.append(numbers)
        )
        found = {next(search)["id"]}
        assert server.requests.count("computeFeatures") == 1  # nothing is asked for before it is needed
        found.update(item["id"] for item in search)
    finally:
        server.collections = usual
    assert found == {scene.index for scene in scenes}
    assert told == [(n, None) for n in range(1000, count + 1, 1000)]
    assert server.requests.count("computeFeatures") == 8

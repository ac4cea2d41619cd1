"""Scenes found in a real STAC API: the same ones that plain pandas and geopandas find in the same items."""

import datetime as dt
import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from pyproj import CRS

from darts_assets.errors import SceneError, SettingsError
from darts_assets.geo.antimeridian import lonlat_area
from darts_assets.sources import parse_item
from darts_assets.sources.stac.scene_ids import UnknownScenesError
from darts_assets.sources.stac.scene_selection import SceneFilter, Selection
from darts_assets.sources.stac.search import StacCatalog
from darts_assets.sources.stac.services import CDSE, CDSE_MOSAIC, EARTH_SEARCH, StacService
from tests.servers.network.http_proxy import Proxy, proxy_of
from tests.servers.stac_api.earth_search import earth_search_of
from tests.servers.stac_api.scene_archive import SceneArchive, make_archive, newest
from tests.servers.stac_api.server import StacApi

COUNT = 5000
ANY = SceneFilter(max_cloud_cover=100, max_snow_cover=100)
EVERYWHERE = shapely.box(-180, -90, 180, 90)
MOSAICS = ("33UUP", "08WMB", "01WCP", "33XWJ")


@dataclass(frozen=True)
class Loaded:
    """An API with all collections, and what is in them.

    Attributes:
        url: the API's.
        earth_search_url: the same in the dialect of Earth Search.
        dsn: its database.
        cdse: what is true of the items of CDSE: the real ones and the generated.
        real: the real items of CDSE.
        earth_search: what is true of the items of Earth Search.
        mosaics: tile, year and quarter of the mosaics.
    """

    url: str
    earth_search_url: str
    dsn: str
    cdse: gpd.GeoDataFrame
    real: list[dict[str, Any]]
    earth_search: gpd.GeoDataFrame
    mosaics: gpd.GeoDataFrame

    def catalog(self, service: StacService, **options: Any) -> StacCatalog:
        if service is EARTH_SEARCH:  # both have a collection of the same name
            return StacCatalog(replace(service, collection="earth"), url=self.earth_search_url, pause=0, **options)
        return StacCatalog(service, url=self.url, pause=0, **options)


def real_items(shared: Path) -> list[dict[str, Any]]:
    """All items of CDSE in the shared data, each once."""
    found = {}
    for path in sorted((shared / "data/cdse_stac").rglob("*.json")):
        document = json.loads(path.read_text())
        if isinstance(document, dict):
            found |= {item["id"]: item for item in document.get("features", [document]) if "geometry" in item}
    return list(found.values())


def described(item: dict[str, Any]) -> dict[str, Any]:
    """What is true of a real item."""
    name, properties = item["id"].split("_"), item["properties"]
    return {
        "id": item["id"], "tile": name[5][1:], "time": pd.Timestamp(properties["datetime"]),
        "cloud": properties["eo:cloud_cover"], "snow": properties["eo:snow_cover"],
        "baseline": properties["processing:version"], "made": name[6], "datastrip": "",
        "published": pd.Timestamp(properties["published"]), "acquisition": "_".join(name[:3] + name[4:6]),
        "geometry": shapely.geometry.shape(item["geometry"]),
    }  # fmt: skip


def mosaic(tile: str, year: int, quarter: int, shape: shapely.Geometry) -> dict[str, Any]:
    """An item of CDSE's mosaics, which lasts until the first moment of the next quarter."""
    start, end = (pd.Period(f"{year}Q{quarter}") + n for n in (0, 1))
    times = [f"{period.start_time:%Y-%m-%dT%H:%M:%SZ}" for period in (start, end)]
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": f"Sentinel-2_mosaic_{year}_Q{quarter}_{tile}_0_0",
        "geometry": shapely.geometry.mapping(shape), "bbox": list(shape.bounds), "links": [], "assets": {},
        "properties": {
            "datetime": times[0], "start_datetime": times[0], "end_datetime": times[1], "grid:code": f"MGRS-{tile}",
            "published": times[1],
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def archive(shared: Path) -> SceneArchive:
    return make_archive(shared, COUNT)


@pytest.fixture(scope="module")
def loaded(stac_api: StacApi, archive: SceneArchive, shared: Path) -> Iterator[Loaded]:
    real = real_items(shared)
    stac_api.load(CDSE.collection, [*real, *archive.items])
    table = gpd.GeoDataFrame([described(item) for item in real], geometry="geometry", crs="EPSG:4326")
    items, earth_search = archive.of_earth_search()
    stac_api.load("earth", items[:2000])
    grid = gpd.read_parquet(shared / "data/s2_grid/sentinel-2-grid_LAND.parquet").set_index("tile").geometry
    mosaics = pd.MultiIndex.from_product([MOSAICS, range(2019, 2025), range(1, 5)], names=["tile", "year", "quarter"])
    made = mosaics.to_frame(index=False)
    shapes = gpd.GeoDataFrame(made, geometry=grid[made.tile].to_numpy(), crs="EPSG:4326")
    stac_api.load(CDSE_MOSAIC.collection, [mosaic(*row) for row in shapes.itertuples(index=False)])
    cdse = pd.concat([archive.truth, table], ignore_index=True)
    with earth_search_of(stac_api.url) as url:
        yield Loaded(stac_api.url, url, stac_api.dsn, cdse, real, earth_search.iloc[:2000], shapes)


def found(catalog: StacCatalog, selection: Selection) -> list[str]:
    return [item["id"] for item in catalog.search(selection)]


def of_months(truth: gpd.GeoDataFrame, months: tuple[int, ...], years: tuple[int, ...]) -> pd.Series:
    wanted = truth.time.dt.month.isin(months) if months else pd.Series(True, index=truth.index)
    return wanted & (truth.time.dt.year.isin(years) if years else True)


FILTERS: dict[str, tuple[SceneFilter, Callable[[gpd.GeoDataFrame], Any]]] = {
    "defaults": (SceneFilter(), lambda t: (t.cloud <= 10) & (t.snow <= 10)),
    "cloud": (SceneFilter(max_cloud_cover=35.5, max_snow_cover=100), lambda t: t.cloud <= 35.5),
    "no cloud at all": (SceneFilter(max_cloud_cover=0, max_snow_cover=100), lambda t: t.cloud <= 0),
    "snow": (SceneFilter(max_cloud_cover=100, max_snow_cover=0), lambda t: t.snow <= 0),
    "off": (ANY, lambda t: t.cloud >= 0),
    "start": (replace(ANY, start=dt.date(2022, 6, 1)), lambda t: t.time >= "2022-06-01"),
    "end": (replace(ANY, end=dt.date(2019, 2, 28)), lambda t: t.time < "2019-03-01"),
    "days": (
        replace(ANY, start=dt.date(2020, 1, 1), end=dt.date(2020, 12, 31)),
        lambda t: (t.time >= "2020-01-01") & (t.time < "2021-01-01"),
    ),
    "months": (replace(ANY, months=(7, 8)), lambda t: of_months(t, (7, 8), ())),
    "years": (replace(ANY, years=(2018, 2023)), lambda t: of_months(t, (), (2018, 2023))),
    "months and years": (
        replace(ANY, months=(12, 6, 1), years=(2021, 2020)), lambda t: of_months(t, (1, 6, 12), (2020, 2021)),
    ),
    "all at once": (
        SceneFilter(max_cloud_cover=60, max_snow_cover=70, months=(6, 7, 8, 9), years=(2019, 2021, 2022)),
        lambda t: (t.cloud <= 60) & (t.snow <= 70) & of_months(t, (6, 7, 8, 9), (2019, 2021, 2022)),
    ),
    "baseline": (replace(ANY, baseline="05.09"), lambda t: t.baseline == "05.09"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("service", [CDSE, EARTH_SEARCH], ids=lambda service: service.provider)
def test_each_filter(loaded: Loaded, service: StacService, name: str, caplog: pytest.LogCaptureFixture) -> None:
    truth = loaded.cdse if service is CDSE else loaded.earth_search
    tiles = [*truth.tile.value_counts().index[:25], "06VVN", "09WWV", "60WWV", "01WCP"]
    wanted, holds = FILTERS[name]
    asked = truth[truth.tile.isin(tiles)]
    latest = newest(asked[asked.baseline == wanted.baseline] if wanted.baseline else asked)
    expected = latest[holds(latest)]
    assert len(expected) > 3
    with caplog.at_level(logging.WARNING, "darts_assets"):
        ids = found(loaded.catalog(service), Selection(tiles=tiles, filter=wanted))
    assert sorted(ids) == sorted(expected.id)
    assert not caplog.records, "the service was asked for exactly these"


def polygon(*points: tuple[float, float]) -> shapely.Polygon:
    return shapely.Polygon(points)


AREAS = {
    "box": shapely.box(-150, 66, -130, 71),
    "Lena delta": shapely.box(120, 70, 132, 74),
    "multipolygon": shapely.MultiPolygon([shapely.box(10, 76, 30, 81), polygon((-140, 60), (-120, 60), (-130, 70))]),
    "with a hole": shapely.box(-170, 60, -110, 75) - shapely.box(-160, 62, -112, 73),
    "around the antimeridian": shapely.MultiPolygon([shapely.box(178, 64, 180, 71), shapely.box(-180, 64, -178, 71)]),
    "one side of the antimeridian": shapely.box(-180, 65, -179.7, 70.5),
    "a corner of a tile there": shapely.box(-179.31, 65.72, -179.3, 65.73),
    "Greenwich": shapely.box(-1, 60, 1, 84),
    "everywhere": EVERYWHERE,
}


@pytest.mark.parametrize("name", AREAS)
def test_areas(loaded: Loaded, name: str) -> None:
    truth = loaded.cdse
    expected = newest(truth[truth.intersects(AREAS[name])])
    assert sorted(found(loaded.catalog(CDSE), Selection(area=AREAS[name], filter=ANY))) == sorted(expected.id)
    assert len(expected) or name == "Greenwich"


def test_areas_in_another_crs(loaded: Loaded) -> None:
    """Squares in the polar projection: around the pole, and across the antimeridian."""
    truth = loaded.cdse.to_crs(3413)
    for area in (shapely.box(-1_200_000, -1_200_000, 1_200_000, 1_200_000), shapely.box(-2e6, 1e6, -1e6, 2.2e6)):
        # Footprints of straight lines in longitudes are not straight here: what the edge of the area touches is open.
        inside, outside = truth.within(area.buffer(-15_000)), truth.disjoint(area.buffer(15_000))
        ids = set(found(loaded.catalog(CDSE), Selection(area=lonlat_area(area, CRS(3413)), filter=ANY)))
        expected = newest(loaded.cdse)
        assert set(expected.id[inside]) <= ids <= set(expected.id[~outside])
        assert inside.sum() > 50


def test_areas_of_many_vertices(loaded: Loaded) -> None:
    """They are asked for in few, and the answer is made exact here."""
    angles = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    radius = 8 + np.sin(40 * angles)
    star = shapely.Polygon(np.stack([-140 + 2 * radius * np.cos(angles), 67 + radius * np.sin(angles) / 2], axis=1))
    with proxy_of(loaded.url) as proxy:
        ids = found(replaced(loaded, proxy).catalog(CDSE), Selection(area=star, filter=ANY))
        (request,) = proxy.requests
    assert sorted(ids) == sorted(newest(loaded.cdse[loaded.cdse.intersects(star)]).id)
    assert len(ids) > 50
    assert len(request.body) < 60_000


def replaced(loaded: Loaded, proxy: Proxy) -> Loaded:
    return replace(loaded, url=proxy.url)


def searches(proxy: Proxy) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in proxy.requests if request.method == "POST"]


def test_ids(loaded: Loaded) -> None:
    wanted = loaded.cdse.id.tolist()[::-1]
    with proxy_of(loaded.url) as proxy:
        ids = found(replaced(loaded, proxy).catalog(CDSE), Selection(scene_ids=wanted))
        assert sorted(ids) == sorted(wanted), "all processings: who names one wants that one"
        assert [len(body["ids"]) for body in searches(proxy)] == [1000] * 5 + [len(wanted) - COUNT]


def test_unknown_ids_are_named_after_the_others_were_given(loaded: Loaded) -> None:
    unknown = [f"S2A_MSIL2A_20230615T1234{n}_N0509_R012_T33UUP_20230615T145312" for n in range(10, 22)]
    known = loaded.cdse.id.tolist()[:3]
    given = []
    with pytest.raises(UnknownScenesError) as raised:
        given.extend(i["id"] for i in loaded.catalog(CDSE).search(Selection(scene_ids=[*unknown, *known])))
    assert sorted(given) == sorted(known)
    assert raised.value.scene_ids == tuple(unknown)
    assert f"does not have 12 of the scene ids: '{unknown[0]}'" in str(raised.value)
    assert "and 2 more" in str(raised.value)


def test_pages_of_a_thousand(loaded: Loaded) -> None:
    """As few requests as can be, in the right order, and the state of things after each."""
    told = []
    with proxy_of(loaded.url) as proxy:
        catalog = replaced(loaded, proxy).catalog(CDSE)
        items = list(catalog.search(Selection(area=EVERYWHERE, filter=ANY), lambda *state: told.append(state)))
    pages = math.ceil(len(loaded.cdse) / 1000)
    assert len(proxy.requests) == catalog.requests == pages
    assert [body["limit"] for body in searches(proxy)] == [1000] * pages
    assert told == [(min(1000 * n, len(loaded.cdse)), None) for n in range(1, pages + 1)]
    times = [item["properties"]["datetime"] for item in items]
    assert times == sorted(times, reverse=True)


def test_pages_come_one_by_one(loaded: Loaded) -> None:
    with proxy_of(loaded.url) as proxy:
        items = replaced(loaded, proxy).catalog(CDSE, page=100).search(Selection(area=EVERYWHERE, filter=ANY))
        next(items)
        assert len(proxy.requests) == 1


def test_many_stretches_of_time_are_one_search_where_the_service_can(loaded: Loaded) -> None:
    summers = replace(ANY, months=(7, 8), years=(2018, 2019, 2020, 2021))
    selection = Selection(tiles=["01WCP", "33XWJ"], filter=summers)
    with proxy_of(loaded.url) as proxy:
        list(replaced(loaded, proxy).catalog(CDSE).search(selection))
        assert len(searches(proxy)) == 1
    with proxy_of(loaded.earth_search_url) as proxy:
        list(replace(loaded, earth_search_url=proxy.url).catalog(EARTH_SEARCH).search(selection))
        asked = [body["datetime"] for body in searches(proxy)]
    assert asked == [f"{year}-07-01T00:00:00Z/{year}-08-31T23:59:59.999Z" for year in (2021, 2020, 2019, 2018)]


def test_how_many_match_where_the_service_tells(loaded: Loaded) -> None:
    told = []
    with psycopg.connect(loaded.dsn, autocommit=True) as database:
        database.execute("INSERT INTO pgstac.pgstac_settings (name, value) VALUES ('context', 'on') "
                         "ON CONFLICT (name) DO UPDATE SET value = 'on'")  # fmt: skip
        try:
            selection = Selection(tiles=["01WCP"], filter=ANY)
            list(loaded.catalog(CDSE, page=20).search(selection, lambda *state: told.append(state)))
        finally:
            database.execute("UPDATE pgstac.pgstac_settings SET value = 'off' WHERE name = 'context'")
    count = int((loaded.cdse.tile == "01WCP").sum())
    assert told[0] == (min(20, count), count)
    assert told[-1] == (count, count)


def test_the_real_items(loaded: Loaded) -> None:
    """They are scenes, and each is found by what it says of itself."""
    assert len(loaded.real) == 9
    for item in loaded.real:
        scene = parse_item(item)
        assert scene.tile is not None
        assert scene.cloud_cover is not None
        assert scene.snow_cover is not None
        day = scene.datetime.date()
        wanted = SceneFilter(
            max_cloud_cover=scene.cloud_cover, max_snow_cover=scene.snow_cover, start=day, end=day,
            baseline=scene.processing_baseline,
        )  # fmt: skip
        for selection in (
            Selection(tiles=[scene.tile], filter=wanted),
            Selection(area=shapely.geometry.shape(item["geometry"]).representative_point(), filter=wanted),
        ):
            assert scene.id in found(loaded.catalog(CDSE), selection)


def test_a_real_item_of_earth_search(stac_api: StacApi, shared: Path) -> None:
    path = shared / "data/geoengine/geoengine/test_data/stac_responses/items/element84.json"
    (item,) = json.loads(path.read_text())["features"]
    stac_api.load("earth-real", [item])
    exactly = SceneFilter(48.887998, 0.001746, dt.date(2026, 3, 27), dt.date(2026, 3, 27), baseline="05.12")
    with earth_search_of(stac_api.url) as url:
        catalog = StacCatalog(replace(EARTH_SEARCH, collection="earth-real"), url=url, pause=0)
        for selection in (
            Selection(tiles=["30VVJ"], filter=exactly),
            Selection(area=shapely.geometry.shape(item["geometry"]).envelope, filter=exactly),
            Selection(scene_ids=["S2B_30VVJ_20260327_0_L2A"]),
        ):
            assert found(catalog, selection) == ["S2B_30VVJ_20260327_0_L2A"]
        for miss in ({"max_cloud_cover": 48}, {"max_snow_cover": 0}, {"end": None, "start": dt.date(2026, 3, 28)}):
            assert found(catalog, Selection(tiles=["30VVJ"], filter=replace(exactly, **miss))) == []


@pytest.mark.parametrize(
    ("years", "quarters"), [((), ()), ((2021,), ()), ((), (3,)), ((2020, 2021), (4, 1)), ((2023,), (1, 2, 3, 4))]
)
def test_mosaics(loaded: Loaded, years: tuple[int, ...], quarters: tuple[int, ...]) -> None:
    truth = loaded.mosaics
    expected = truth[truth.year.isin(years or range(3000)) & truth.quarter.isin(quarters or range(5))]
    catalog = loaded.catalog(CDSE_MOSAIC)
    wanted = SceneFilter(years=years, quarters=quarters)
    area = shapely.MultiPolygon([shapely.box(179, 66, 180, 66.5), shapely.box(16, 79.5, 17, 80)])
    for selection, chosen in (
        (Selection(tiles=["33UUP", "T08WMB"], filter=wanted), expected[expected.tile.isin(["33UUP", "08WMB"])]),
        (Selection(area=area, filter=wanted), expected[expected.intersects(area)]),
    ):
        ids = [f"Sentinel-2_mosaic_{row.year}_Q{row.quarter}_{row.tile}_0_0" for row in chosen.itertuples()]
        assert ids
        assert sorted(found(catalog, selection)) == sorted(ids)
    assert found(catalog, Selection(scene_ids=ids[:1])) == ids[:1]


def test_what_was_published_since(loaded: Loaded) -> None:
    """The oldest comes first, so that whoever stops can go on from there, and no page is asked for in vain."""
    truth = loaded.cdse
    since = truth.published.sort_values().iloc[-150].to_pydatetime()
    with proxy_of(loaded.url) as proxy:
        catalog = replaced(loaded, proxy).catalog(CDSE, page=40)
        items = list(catalog.search(Selection(area=EVERYWHERE, filter=replace(ANY, published_since=since))))
        times = [item["properties"]["published"] for item in items]
        assert times == sorted(times)
        late = truth[truth.published >= since]
        assert set(newest(late).id) <= {item["id"] for item in items} <= set(late.id)
        assert len(proxy.requests) == math.ceil(len(late) / 40)
        first = catalog.search(Selection(area=EVERYWHERE, filter=replace(ANY, published_since=since)))
        assert [next(first)["id"] for _ in range(10)] == [item["id"] for item in items[:10]]
        assert len(proxy.requests) == math.ceil(len(late) / 40) + 1


def test_what_was_published_since_of_some_months(loaded: Loaded) -> None:
    """Where the service knows no "or", all stretches of time are one request, or what is published would be mixed."""
    truth = loaded.earth_search
    since = truth.published.sort_values().iloc[-600].to_pydatetime()
    wanted = replace(ANY, published_since=since, months=(6, 8))
    with proxy_of(loaded.earth_search_url) as proxy:
        catalog = replace(loaded, earth_search_url=proxy.url).catalog(EARTH_SEARCH)
        items = list(catalog.search(Selection(area=EVERYWHERE, filter=wanted)))
        assert len({body["datetime"] for body in searches(proxy)}) == 1
    times = [item["properties"]["created"] for item in items]
    assert times == sorted(times)
    late = truth[(truth.published >= since) & of_months(truth, (6, 8), ())]
    assert set(newest(late).id) <= {item["id"] for item in items} <= set(late.id)


def test_nothing_matches(loaded: Loaded) -> None:
    with proxy_of(loaded.url) as proxy:
        assert found(replaced(loaded, proxy).catalog(CDSE), Selection(tiles=["33UUP"])) == []
        assert [request.method for request in proxy.requests] == ["POST", "GET"], "the collection is there: it is true"


def test_a_collection_that_does_not_exist(loaded: Loaded) -> None:
    catalog = StacCatalog(replace(CDSE, collection="sentinel-2-l3z"), url=loaded.url, pause=0)
    with pytest.raises(
        SettingsError, match=r"sentinel-2-l3z at .*/collections/sentinel-2-l3z is refused: HTTP status 404"
    ):
        found(catalog, Selection(tiles=["33UUP"]))


def test_what_is_for_another_kind_of_catalog(loaded: Loaded) -> None:
    with pytest.raises(SettingsError, match=r"quarters apply to mosaics.*set months instead"):
        loaded.catalog(CDSE).search(Selection(tiles=["33UUP"], filter=SceneFilter(quarters=(3,))))
    with pytest.raises(SceneError, match="'S2A_33UUP_20230615_0_L2A': ids of earth_search, which sentinel-2-l2a at"):
        loaded.catalog(CDSE).search(Selection(scene_ids=["S2A_33UUP_20230615_0_L2A"]))
    with pytest.raises(SettingsError, match="mosaics are selected by years and quarters"):
        loaded.catalog(CDSE_MOSAIC).search(Selection(tiles=["33UUP"], filter=SceneFilter(months=(7,))))

"""The sensor as Dagster evaluates it, tick by tick: with a catalog in memory, and (slow) with a real STAC API."""

import datetime as dt
import functools
import json
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import pytest
import shapely

from darts_assets.definitions import build_defs
from darts_assets.errors import DartsError, SourceUnavailableError
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import SceneCatalogs, SourceAccess, Store
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.watched_areas import Watch
from darts_assets.settings import Settings
from darts_assets.sources.stac.scene_selection import Selection
from tests.servers.network.http_proxy import proxy_of
from tests.servers.stac_api.scene_feed import SceneFeed, scene

NOW = dt.datetime.now(dt.UTC)
FIRST = NOW - dt.timedelta(days=5)
SINCE = f"since = {NOW - dt.timedelta(days=20):%Y-%m-%d}"
PEEL = f'[[areas]]\nname = "Peel"\ntiles = ["08WMB"]\n{SINCE}'
YUKON = f'[[areas]]\nname = "Yukon"\ntiles = ["08WNB"]\n{SINCE}'


API = pytest.param("api", marks=pytest.mark.slow)
with_api = pytest.mark.parametrize("feed", ["memory", API], indirect=True)
"""Also with a real STAC API."""
only_api = pytest.mark.parametrize("feed", [API], indirect=True)


def hours(count: float) -> dt.timedelta:
    return dt.timedelta(hours=count)


@dataclass
class MemoryFeed:
    """A catalog in memory, in place of CDSE's.

    Attributes:
        url: of no service; nothing may be requested.
        items: id -> STAC item.
        failures: tile -> error that a search for it raises.
        stall_after: number of items after which a search does not go on until `release` is set.
        searches: the selections that were searched for.
    """

    url: str = "http://127.0.0.1:9/"
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, DartsError] = field(default_factory=dict)
    stall_after: int | None = None
    release: threading.Event = field(default_factory=threading.Event)
    searches: list[Selection] = field(default_factory=list)

    def publish(self, items: Iterable[dict[str, Any]]) -> list[str]:
        """Let items appear, or appear again; returns their ids."""
        new = {item["id"]: item for item in items}
        self.items |= new
        return list(new)

    def search(self, selection: Selection, progress: Any = None, unknown: Any = None) -> Iterator[dict[str, Any]]:
        """The matching items in the order of their publication, as `StacCatalog.search` yields them."""
        self.searches.append(selection)
        for tile in selection.tiles:
            if tile in self.failures:
                raise self.failures[tile]
        matching = [item for item in self.items.values() if self._matches(item, selection)]
        for number, item in enumerate(sorted(matching, key=lambda item: item["properties"]["published"])):
            if number == self.stall_after:
                self.release.wait(60)
            yield item

    def _matches(self, item: dict[str, Any], selection: Selection) -> bool:
        properties, filters = item["properties"], selection.filter
        published = dt.datetime.fromisoformat(properties["published"])
        if selection.area is not None:
            inside = selection.area.intersects(shapely.geometry.shape(item["geometry"]))
        else:
            inside = properties["grid:code"].removeprefix("MGRS-") in selection.tiles
        is_clear = properties["eo:cloud_cover"] <= filters.max_cloud_cover
        assert filters.published_since is not None
        return inside and is_clear and published >= filters.published_since


@functools.cache
def code_location() -> dg.Definitions:
    return build_defs(Settings())


def evaluate(instance: dg.DagsterInstance, cursor: str | None = None, **resources: Any) -> Any:
    """The sensor's result; no run is created."""
    defs = code_location()
    with dg.build_sensor_context(
        instance,
        cursor,
        definitions=defs,
        resources={**(defs.resources or {}), **resources},
        instance_ref=instance.get_ref(),
    ) as context:
        return defs.resolve_sensor_def("new_sentinel2_scenes").evaluate_tick(context)


@dataclass
class Watcher:
    """A sensor and what Dagster keeps for it.

    Attributes:
        file: of the watched areas.
        instance: Dagster's.
        store: where scenes are kept.
        url: of the catalog.
    """

    file: Path
    instance: dg.DagsterInstance
    store: Path
    url: str
    cursor: str | None = None
    runs: int = 100
    seconds: float = 40.0

    def watch(self, *areas: str) -> None:
        self.file.write_text("\n".join(["version = 1", *areas]))

    def evaluate(self) -> Any:
        """The sensor's result; no run is created."""
        access = SourceAccess()
        return evaluate(
            self.instance,
            self.cursor,
            scenes=SceneRegistry(store=Store(url=str(self.store)), access=access),
            catalogs=SceneCatalogs(access=access, cdse_url=self.url, pause=0.0),
            watch=Watch(path=str(self.file), runs=self.runs, seconds=self.seconds),
        )

    def tick(self) -> Any:
        """A tick as the daemon does it, but that runs stay where they are."""
        said = self.evaluate()
        for request in said.run_requests:
            self.instance.add_run(dg.DagsterRun(job_name="sentinel2_chain", tags=request.tags))
        self.cursor = said.cursor
        return said

    @property
    def partitions(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions("sentinel2_scene"))

    @property
    def positions(self) -> dict[str, Any]:
        return json.loads(self.cursor or "{}")["areas"]


def requested(said: Any) -> list[str]:
    return [request.partition_key for request in said.run_requests]


@pytest.fixture
def feed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A `MemoryFeed` by default, a `SceneFeed` where a test is parametrized with "api"."""
    if getattr(request, "param", "memory") == "api":
        yield SceneFeed(request.getfixturevalue("stac_api"))
        return
    memory = MemoryFeed()
    monkeypatch.setattr(SceneCatalogs, "open", lambda catalogs, provider, earth_engine_collection: memory)
    yield memory
    memory.release.set()


@pytest.fixture
def watcher(tmp_path: Path, feed: Any, empty_home: Path) -> Iterator[Watcher]:
    home = shutil.copytree(empty_home, tmp_path / "dagster")
    url = feed.url if isinstance(feed, MemoryFeed) else feed.api.url
    with dg.DagsterInstance.from_config(str(home)) as instance:
        made = Watcher(tmp_path / "areas.toml", instance, tmp_path / "store", url)
        made.watch(PEEL)
        yield made


@with_api
def test_new_scenes_are_registered_and_requested_once(feed: Any, watcher: Watcher) -> None:
    ids = feed.publish(scene(n, FIRST + hours(n)) for n in range(3))
    feed.publish([scene(7, FIRST, **{"eo:cloud_cover": 80.0}), scene(8, FIRST, tile="08WNB")])
    said = watcher.tick()
    assert requested(said) == ids
    assert watcher.partitions == ids
    assert sorted(path.stem for path in (watcher.store / "scenes/sentinel2").iterdir()) == ids
    assert [request.run_key for request in said.run_requests] == ids
    assert said.run_requests[1].tags["darts/area"] == "Peel"
    assert said.run_requests[1].tags["darts/scene"] == "2024-07-01 T08WMB S2A"
    assert dt.datetime.fromisoformat(said.run_requests[1].tags["darts/published"]) == FIRST + hours(1)
    said = watcher.tick()
    assert requested(said) == []
    assert (
        f"Peel: 3 scenes published since {FIRST + hours(2 - 48):%Y-%m-%d %H:%M} match: 3 known, 0 requested"
        in said.skip_message
    )
    more = feed.publish([scene(3, FIRST + hours(3))])
    assert requested(watcher.tick()) == more


def test_the_same_acquisition_from_another_source_is_not_requested(feed: Any, watcher: Watcher) -> None:
    cdse = scene(0, FIRST)
    assert requested((feed.publish([cdse]), watcher.tick())[1]) == [cdse["id"]]
    other = scene(0, FIRST + hours(1), **{"s2:product_uri": f"{cdse['id']}.SAFE"})
    other["id"] = "S2A_8WMB_20240701_0_L2A"
    names = {"B02_10m": "blue", "B03_10m": "green", "B04_10m": "red", "B08_10m": "nir", "SCL_20m": "scl"}
    other["assets"] = {names[key]: asset for key, asset in other["assets"].items()}
    feed.publish([other])
    said = watcher.tick()
    assert requested(said) == []
    assert "1 known, 0 requested, 1 registered from another source" in said.skip_message
    assert watcher.partitions == [cdse["id"]]


@with_api
def test_late_arrivals_and_repetitions(feed: Any, watcher: Watcher) -> None:
    first = feed.publish(scene(n, FIRST + hours(n)) for n in range(40, 50))
    assert requested(watcher.tick()) == first
    within, before = scene(1, FIRST + hours(2)), scene(2, FIRST)
    feed.publish([*(scene(n, FIRST + hours(n)) for n in range(40, 50)), within, before])
    assert requested(watcher.tick()) == [within["id"]], "two days before the last one; the other came too late"


def test_what_was_found_and_not_requested_is_requested_again(feed: Any, watcher: Watcher) -> None:
    """The daemon was killed after the sensor had registered the scenes, and before it noted the requests."""
    ids = feed.publish(scene(n, FIRST + hours(n)) for n in range(3))
    watcher.evaluate()
    assert watcher.partitions == ids
    assert requested(watcher.tick()) == ids
    assert requested(watcher.tick()) == []


@with_api
def test_a_tick_requests_so_many_and_the_next_one_goes_on(feed: Any, watcher: Watcher) -> None:
    watcher.runs = 10
    ids = feed.publish(scene(n, FIRST + hours(n)) for n in range(25))
    watches = [watcher.tick() for _ in range(4)]
    assert [requested(said) for said in watches] == [ids[:10], ids[10:20], ids[20:], []]


@with_api
def test_going_on_reads_nothing_twice_and_late_arrivals_are_found_at_last(feed: Any, watcher: Watcher) -> None:
    watcher.runs = 4
    feed.publish(scene(n, NOW - hours(10 - n)) for n in range(8))
    watcher.tick()
    (late,) = feed.publish([scene(30, NOW - hours(9.5))])
    said = watcher.tick()
    assert late not in requested(said)
    assert len(requested(said)) == 4
    assert dt.datetime.fromisoformat(said.run_requests[0].tags["darts/published"]) == NOW - hours(6)
    assert watcher.positions["Peel"]["reached"] is None
    assert requested(watcher.tick()) == [late]


@with_api
def test_areas_share_scenes_and_what_a_tick_may_do(feed: Any, watcher: Watcher, tmp_path: Path) -> None:
    box = gpd.GeoDataFrame(geometry=[shapely.box(-134.5, 68.4, -132.5, 68.6)], crs="EPSG:4326")
    box.to_crs(3413).to_file(tmp_path / "both.gpkg")
    both = f'[[areas]]\nname = "both"\naoi = "both.gpkg"\n{SINCE}'
    watcher.watch(PEEL, both, YUKON)
    watcher.runs = 9
    peel = feed.publish(scene(n, FIRST + hours(n)) for n in range(20))
    yukon = feed.publish(scene(n, FIRST + hours(n), tile="08WNB") for n in range(20, 22))
    first = watcher.tick()
    by_area = {r.partition_key: r.tags["darts/area"] for r in first.run_requests}
    assert by_area == {
        **dict.fromkeys(peel[:3], "Peel"),
        **dict.fromkeys(peel[3:6], "both"),
        **dict.fromkeys(yukon, "Yukon"),
    }
    rest = [scene_id for _ in range(4) for scene_id in requested(watcher.tick())]
    assert sorted(rest) == peel[6:]


def test_what_is_processed_already_is_left_alone(feed: Any, watcher: Watcher) -> None:
    done, running, waiting = feed.publish(scene(n, FIRST + hours(n)) for n in range(3))
    watcher.instance.add_dynamic_partitions("sentinel2_scene", [done, running, waiting])
    products = dg.AssetMaterialization(SENTINEL2.key("products"), partition=done)
    watcher.instance.report_runless_asset_event(products)
    watcher.instance.add_run(dg.DagsterRun(job_name="by_hand", tags={"dagster/partition": running}))
    said = watcher.tick()
    assert requested(said) == [waiting]


def test_a_scene_that_cannot_be_used_is_named_and_the_others_go_on(feed: Any, watcher: Watcher) -> None:
    broken = scene(0, FIRST)
    del broken["assets"]["B08_10m"]
    (good,) = feed.publish([scene(1, FIRST + hours(1))])
    feed.publish([broken])
    assert requested(watcher.tick()) == [good]
    said = watcher.tick().skip_message
    assert f"1 known, 0 requested, 1 unusable (such as scene {broken['id']}" in said


def test_a_service_that_is_down_is_reported_and_read_from_the_same_position(feed: MemoryFeed, watcher: Watcher) -> None:
    watcher.watch(PEEL, YUKON)
    assert requested(watcher.tick()) == []
    before = watcher.positions["Peel"]
    peel = feed.publish(scene(n, FIRST + hours(n)) for n in range(3))
    yukon = feed.publish([scene(9, FIRST, tile="08WNB")])
    feed.failures["08WMB"] = SourceUnavailableError("CDSE does not answer")
    assert requested(watcher.tick()) == yukon
    assert "Peel: CDSE does not answer; retrying in the next tick" in watcher.tick().skip_message
    assert watcher.positions["Peel"] == before
    feed.failures.clear()
    assert requested(watcher.tick()) == peel


def test_a_tick_that_times_out_continues_in_the_next_one(feed: MemoryFeed, watcher: Watcher) -> None:
    ids = feed.publish(scene(n, FIRST + hours(n)) for n in range(5))
    feed.stall_after, watcher.seconds = 0, 0.5
    said = watcher.tick()
    assert "Peel: timed out after 0.5 s; retrying in the next tick" in said.skip_message
    assert watcher.positions == {}
    feed.stall_after = 3
    assert requested(watcher.tick()) == ids[:3]
    assert dt.datetime.fromisoformat(watcher.positions["Peel"]["reached"]) == FIRST + hours(2)
    feed.stall_after, watcher.seconds = None, 40.0
    assert requested(watcher.tick()) == ids[3:]
    assert feed.searches[-1].filter.published_since == FIRST + hours(2)


@only_api
@pytest.mark.parametrize(
    ("way", "seconds", "sentence"),
    [
        (503, 40.0, r"Peel: sentinel-2-l2a at .* failed: HTTP status 503.*; given up after 1 attempt"),
        (400, 40.0, "Peel: sentinel-2-l2a at .* is refused: HTTP status 400"),
        ("stall", 1.5, "Peel: timed out after 1.5 s; retrying in the next tick"),
    ],
)
def test_a_service_that_fails(feed: Any, watcher: Watcher, way: Any, seconds: float, sentence: str) -> None:
    """It is told, nothing is lost, and the next tick goes on from the same position."""
    ids = feed.publish(scene(n, FIRST + hours(n)) for n in range(3))
    assert requested(watcher.tick()) == ids
    ids = feed.publish(scene(n, FIRST + hours(n)) for n in range(3, 6))
    before = watcher.positions["Peel"]
    with proxy_of(watcher.url) as proxy:
        healthy, watcher.url, watcher.seconds = watcher.url, proxy.url, seconds
        proxy.fail("/search", way, times=9, Retry_After="700")
        said = watcher.tick()
        assert re.search(sentence, said.skip_message)
        assert requested(said) == []
        assert watcher.positions["Peel"] == before
    watcher.url, watcher.seconds = healthy, 40
    assert requested(watcher.tick()) == ids


def test_an_area_that_takes_all_the_time_comes_last_in_the_next_tick(feed: Any, watcher: Watcher) -> None:
    (yukon,) = feed.publish([scene(0, FIRST, tile="08WNB")])
    with proxy_of(watcher.url) as proxy:
        watcher.watch(f'[[areas]]\nname = "slow"\naoi = "{proxy.url}/area.geojson"', YUKON)
        proxy.fail("/area", "stall", times=2)
        watcher.seconds = 1.5
        said = watcher.tick().skip_message
        assert "slow: timed out after 1.5 s" in said
        assert "Yukon: timed out after 1.5 s" in said
        assert requested(watcher.tick()) == [yukon]


@only_api
def test_a_service_that_fails_for_one_area(feed: Any, watcher: Watcher) -> None:
    watcher.watch(PEEL, YUKON)
    yukon = feed.publish(scene(n, FIRST + hours(n), tile="08WNB") for n in range(3))
    peel = feed.publish([scene(9, FIRST)])
    with proxy_of(watcher.url) as proxy:
        healthy, watcher.url = watcher.url, proxy.url
        proxy.fail("/search", 400)
        assert requested(watcher.tick()) == yukon
    watcher.url = healthy
    assert requested(watcher.tick()) == peel


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no such file"),
        ("version = 1\nareas = [", "not a TOML file: "),
        ("a = " + "[" * 100_000, "not a TOML file: "),
        ("areas = []", "version is None; expected 'version = 1'"),
        ("version = 2", "version is 2"),
        ("version = 1\narea = 3", "unknown entry area; expected version, overlap_days, areas"),
        ("version = 1\noverlap_days = -1", "overlap_days is -1; expected 0 to 365"),
        ("version = 1\nareas = 3", "expected areas as tables that start with [[areas]]"),
        ("version = 1", "contains no areas"),
    ],
)
def test_a_file_that_makes_no_sense_skips_the_tick(watcher: Watcher, content: str | None, sentence: str) -> None:
    watcher.cursor = '{"version":1,"areas":{},"asked":{}}'
    watcher.file.unlink() if content is None else watcher.file.write_text(content)
    said = watcher.tick()
    assert sentence in said.skip_message
    assert str(watcher.file) in said.skip_message
    assert said.cursor == '{"version":1,"areas":{},"asked":{}}'


def test_without_a_file_nothing_is_watched(watcher: Watcher) -> None:
    assert "DARTS_WATCH" in evaluate(watcher.instance).skip_message
    sensor = code_location().resolve_sensor_def("new_sentinel2_scenes")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert sensor.minimum_interval_seconds == 900


AREAS: dict[str, tuple[str, str]] = {
    "no place": ("", "set either tiles or aoi"),
    "two places": ('tiles = ["08WMB"]\naoi = "a.gpkg"', "set either tiles or aoi"),
    "an unknown entry": ('tiles = ["08WMB"]\nmax_clouds = 3', "max_clouds: Extra inputs are not permitted"),
    "an unknown source": ('tiles = ["08WMB"]\nsource = "usgs"', "source: Input should be 'cdse' or 'earth_search'"),
    "a filter": ('tiles = ["08WMB"]\nmonths = [13]', "months: [13] out of range"),
    "no tile": ('tiles = ["8888"]', "malformed tile id(s): '8888'"),
    "no file": ('aoi = "none.gpkg"', "none.gpkg: there is no such file"),
}


@pytest.mark.parametrize("name", AREAS)
def test_an_area_that_makes_no_sense_stops_no_other(feed: Any, watcher: Watcher, name: str) -> None:
    (known,) = feed.publish([scene(0, FIRST, tile="08WNB")])
    entries, sentence = AREAS[name]
    watcher.watch(f'[[areas]]\nname = "Peel"\n{entries}', YUKON)
    assert requested(watcher.tick()) == [known]
    assert sentence in watcher.tick().skip_message


def test_edits_of_the_file_take_effect_at_the_next_tick(feed: Any, watcher: Watcher) -> None:
    clear = feed.publish(scene(n, FIRST + hours(n)) for n in (0, 90))
    cloudy = feed.publish([scene(1, FIRST, **{"eo:cloud_cover": 30.0})])
    yukon = feed.publish([scene(2, FIRST, tile="08WNB")])
    assert requested(watcher.tick()) == clear
    watcher.watch(PEEL, YUKON)
    assert requested(watcher.tick()) == yukon
    before = watcher.positions
    watcher.watch(PEEL, '[[areas]]\nname = "Yukon"\nmonths = 7')
    watcher.tick()
    assert watcher.positions["Yukon"] == before["Yukon"], "a slip of the pen forgets nothing"
    watcher.watch(f"{PEEL}\nmax_cloud_cover = 50")
    assert requested(watcher.tick()) == cloudy, "another selection is looked at from its start"
    assert watcher.positions.keys() == {"Peel"}


def test_an_area_without_a_first_day_begins_a_week_ago(feed: Any, watcher: Watcher) -> None:
    watcher.watch('[[areas]]\nname = "Peel"\ntiles = ["08WMB"]')
    now = dt.datetime.now(dt.UTC)  # not NOW: a whole run of the tests takes longer than the margin of an hour
    feed.publish([scene(0, now - dt.timedelta(days=7, hours=1))])
    (recent,) = feed.publish([scene(1, now - dt.timedelta(days=6, hours=23))])
    assert requested(watcher.tick()) == [recent]


def test_an_edited_area_forgets_nothing_that_it_had_not_reached(feed: Any, watcher: Watcher) -> None:
    first, second = feed.publish(scene(n, NOW - dt.timedelta(days=15 - n)) for n in range(2))
    watcher.runs = 1
    assert requested(watcher.tick()) == [first]
    watcher.watch(PEEL.replace(SINCE, ""))
    assert requested(watcher.tick()) == [second]


def test_a_cursor_of_something_else_begins_anew(feed: Any, watcher: Watcher) -> None:
    ids = feed.publish([scene(0, FIRST)])
    for cursor in ("12", '{"version": 2, "areas": {}}', "{"):
        watcher.cursor = cursor
        assert requested(watcher.evaluate()) == ids

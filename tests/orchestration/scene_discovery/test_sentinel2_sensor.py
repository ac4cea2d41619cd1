"""The sensor as Dagster evaluates it, tick by tick, against a real STAC API."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import pytest
import shapely

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.scene_discovery.watched_areas import Position, Watch
from darts_assets.settings import Settings
from tests.servers.network.http_proxy import proxy_of
from tests.servers.stac_api.scene_feed import SceneFeed, scene
from tests.servers.stac_api.server import StacApi

NOW = dt.datetime.now(dt.UTC)
FIRST = NOW - dt.timedelta(days=5)
SINCE = f"since = {NOW - dt.timedelta(days=20):%Y-%m-%d}"
PEEL = f'[[areas]]\nname = "Peel"\ntiles = ["08WMB"]\n{SINCE}'
YUKON = f'[[areas]]\nname = "Yukon"\ntiles = ["08WNB"]\n{SINCE}'


def hours(count: float) -> dt.timedelta:
    return dt.timedelta(hours=count)


def evaluate(defs: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    """What the sensor says; no run is created."""
    with dg.build_sensor_context(
        instance, cursor, definitions=defs, resources=defs.resources, instance_ref=instance.get_ref()
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
        """What the sensor says; no run is created."""
        settings = Settings(store=str(self.store), cdse_url=self.url, catalog_pause=0)
        watch = Watch(path=str(self.file), runs=self.runs, seconds=self.seconds)
        return evaluate(build_defs(settings, watch=watch), self.instance, self.cursor)

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
def feed(stac_api: StacApi) -> SceneFeed:
    return SceneFeed(stac_api)


@pytest.fixture
def watcher(tmp_path: Path, stac_api: StacApi) -> Iterator[Watcher]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        made = Watcher(tmp_path / "areas.toml", instance, tmp_path / "store", stac_api.url)
        made.watch(PEEL)
        yield made


def test_new_scenes_are_registered_and_requested_once(feed: SceneFeed, watcher: Watcher) -> None:
    ids = feed.publish(scene(n, FIRST + hours(n)) for n in range(3))
    feed.publish([scene(7, FIRST, **{"eo:cloud_cover": 80.0}), scene(8, FIRST, tile="08WNB")])
    said = watcher.tick()
    assert requested(said) == ids
    assert watcher.partitions == ids
    assert sorted(path.stem for path in (watcher.store / "scenes/sentinel2").iterdir()) == ids
    assert [request.run_key for request in said.run_requests] == ids
    assert said.run_requests[1].tags["darts/area"] == "Peel"
    assert dt.datetime.fromisoformat(said.run_requests[1].tags["darts/published"]) == FIRST + hours(1)
    said = watcher.tick()
    assert requested(said) == []
    assert (
        f"Peel: 3 matched, published since {FIRST + hours(2 - 48):%Y-%m-%d %H:%M}: 3 known, 0 new" in said.skip_message
    )
    more = feed.publish([scene(3, FIRST + hours(3))])
    assert requested(watcher.tick()) == more


def test_late_arrivals_and_repetitions(feed: SceneFeed, watcher: Watcher) -> None:
    first = feed.publish(scene(n, FIRST + hours(n)) for n in range(40, 50))
    assert requested(watcher.tick()) == first
    within, before = scene(1, FIRST + hours(2)), scene(2, FIRST)
    feed.publish([*(scene(n, FIRST + hours(n)) for n in range(40, 50)), within, before])
    assert requested(watcher.tick()) == [within["id"]], "two days before the last one; the other came too late"


def test_what_was_found_and_not_requested_is_requested_again(feed: SceneFeed, watcher: Watcher) -> None:
    """The daemon was killed after the sensor had registered the scenes, and before it noted the requests."""
    ids = feed.publish(scene(n, FIRST + hours(n)) for n in range(3))
    watcher.evaluate()
    assert watcher.partitions == ids
    assert requested(watcher.tick()) == ids
    assert requested(watcher.tick()) == []


def test_a_tick_requests_so_many_and_the_next_one_goes_on(feed: SceneFeed, watcher: Watcher) -> None:
    watcher.runs = 10
    ids = feed.publish(scene(n, FIRST + hours(n)) for n in range(25))
    watches = [watcher.tick() for _ in range(4)]
    assert [requested(said) for said in watches] == [ids[:10], ids[10:20], ids[20:], []]


def test_going_on_reads_nothing_twice_and_late_arrivals_are_found_at_last(feed: SceneFeed, watcher: Watcher) -> None:
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


def test_areas_share_scenes_and_what_a_tick_may_do(feed: SceneFeed, watcher: Watcher, tmp_path: Path) -> None:
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


def test_what_is_processed_already_is_left_alone(feed: SceneFeed, watcher: Watcher) -> None:
    done, running, waiting = feed.publish(scene(n, FIRST + hours(n)) for n in range(3))
    watcher.instance.add_dynamic_partitions("sentinel2_scene", [done, running, waiting])
    products = dg.AssetMaterialization(SENTINEL2.key("products"), partition=done)
    watcher.instance.report_runless_asset_event(products)
    watcher.instance.add_run(dg.DagsterRun(job_name="by_hand", tags={"dagster/partition": running}))
    said = watcher.tick()
    assert requested(said) == [waiting]


def test_a_scene_that_cannot_be_used_is_named_and_the_others_go_on(feed: SceneFeed, watcher: Watcher) -> None:
    broken = scene(0, FIRST)
    del broken["assets"]["B08_10m"]
    (good,) = feed.publish([scene(1, FIRST + hours(1))])
    feed.publish([broken])
    assert requested(watcher.tick()) == [good]
    said = watcher.tick().skip_message
    assert f"1 known, 0 new and requested, 1 unusable, such as scene {broken['id']}" in said


@pytest.mark.parametrize(
    ("way", "seconds", "sentence"),
    [
        (503, 40.0, r"Peel: sentinel-2-l2a at .* failed 1 time\(s\), .* status 503"),
        (400, 40.0, "Peel: sentinel-2-l2a at .* is refused: HTTP status 400"),
        ("stall", 1.5, "Peel: 1.5 s were too short; it is tried again"),
    ],
)
def test_a_service_that_fails(feed: SceneFeed, watcher: Watcher, way: Any, seconds: float, sentence: str) -> None:
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


def test_an_area_that_takes_all_the_time_comes_last_in_the_next_tick(feed: SceneFeed, watcher: Watcher) -> None:
    (yukon,) = feed.publish([scene(0, FIRST, tile="08WNB")])
    with proxy_of(watcher.url) as proxy:
        watcher.watch(f'[[areas]]\nname = "slow"\naoi = "{proxy.url}/area.geojson"', YUKON)
        proxy.fail("/area", "stall", times=2)
        watcher.seconds = 1.5
        said = watcher.tick().skip_message
        assert "slow: 1.5 s were too short" in said
        assert "Yukon: 1.5 s were too short" in said
        assert requested(watcher.tick()) == [yukon]


def test_a_service_that_fails_for_one_area(feed: SceneFeed, watcher: Watcher) -> None:
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
        ("version = 1\nareas = [", "it is not TOML: "),
        ("areas = []", "version is None; 'version = 1' was expected"),
        ("version = 2", "version is 2"),
        ("version = 1\narea = 3", "area: expected version, overlap_days, areas"),
        ("version = 1\noverlap_days = -1", "overlap_days is -1; 0 to 365 days were expected"),
        ("version = 1\nareas = 3", r"areas are tables that begin with [[areas]]"),
        ("version = 1", "has no areas"),
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
    defs = build_defs(Settings())
    assert "DARTS_WATCH" in evaluate(defs, watcher.instance).skip_message
    sensor = defs.resolve_sensor_def("new_sentinel2_scenes")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert sensor.minimum_interval_seconds == 900


AREAS: dict[str, tuple[str, str]] = {
    "no place": ("", "give either tiles or aoi"),
    "two places": ('tiles = ["08WMB"]\naoi = "a.gpkg"', "give either tiles or aoi"),
    "an unknown entry": ('tiles = ["08WMB"]\nmax_clouds = 3', "max_clouds: Extra inputs are not permitted"),
    "an unknown source": ('tiles = ["08WMB"]\nsource = "usgs"', "source: Input should be 'cdse' or 'earth_search'"),
    "a filter": ('tiles = ["08WMB"]\nmonths = [13]', "months: [13] out of range"),
    "no tile": ('tiles = ["8888"]', "malformed tile id(s): '8888'"),
    "no file": ('aoi = "none.gpkg"', "none.gpkg: there is no such file"),
}


@pytest.mark.parametrize("name", AREAS)
def test_an_area_that_makes_no_sense_stops_no_other(feed: SceneFeed, watcher: Watcher, name: str) -> None:
    (known,) = feed.publish([scene(0, FIRST, tile="08WNB")])
    entries, sentence = AREAS[name]
    watcher.watch(f'[[areas]]\nname = "Peel"\n{entries}', YUKON)
    assert requested(watcher.tick()) == [known]
    assert sentence in watcher.tick().skip_message


def test_edits_of_the_file_take_effect_at_the_next_tick(feed: SceneFeed, watcher: Watcher) -> None:
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


def test_an_area_without_a_first_day_begins_a_week_ago(feed: SceneFeed, watcher: Watcher) -> None:
    watcher.watch('[[areas]]\nname = "Peel"\ntiles = ["08WMB"]')
    feed.publish([scene(0, NOW - dt.timedelta(days=7, hours=1))])
    (recent,) = feed.publish([scene(1, NOW - dt.timedelta(days=6, hours=23))])
    assert requested(watcher.tick()) == [recent]


def test_an_edited_area_forgets_nothing_that_it_had_not_reached(feed: SceneFeed, watcher: Watcher) -> None:
    first, second = feed.publish(scene(n, NOW - dt.timedelta(days=15 - n)) for n in range(2))
    watcher.runs = 1
    assert requested(watcher.tick()) == [first]
    watcher.watch(PEEL.replace(SINCE, ""))
    assert requested(watcher.tick()) == [second]


def test_a_cursor_of_something_else_begins_anew(feed: SceneFeed, watcher: Watcher) -> None:
    ids = feed.publish([scene(0, FIRST)])
    for cursor in ("12", '{"version": 2, "areas": {}}', "{"):
        watcher.cursor = cursor
        assert requested(watcher.evaluate()) == ids


def at(day: float) -> dt.datetime:
    return dt.datetime(2024, 7, 1, tzinfo=dt.UTC) + dt.timedelta(days=day)


@pytest.mark.parametrize(
    ("reached", "read_to", "ended", "expected"),
    [
        (None, 20, True, (18, None)),  # all of it: the overlap once more
        (None, 11, True, (10, None)),  # never back
        (None, 15, False, (15, 15)),  # long ago: what was to appear until then has appeared
        (None, 19.5, False, (18, 19.5)),  # something may still appear since 18
        (19, 19.5, False, (10, 19.5)),  # going on: from where this began, all is read again
        (19, 20, True, (10, None)),
    ],
)  # fmt: skip
def test_positions(reached: float | None, read_to: float, ended: bool, expected: tuple[float, float | None]) -> None:
    position = Position(selection="", since=at(10), reached=at(reached) if reached else None)
    after = position.after(at(read_to), at(20), dt.timedelta(days=2), ended=ended)
    since, then = expected
    assert (after.since, after.reached) == (at(since), at(then) if then is not None else None)

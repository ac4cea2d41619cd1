"""Data prepared for scenes, optical and auxiliary, and the chain offline afterwards: the job `prepare_data`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from darts_assets.demo import World
from darts_assets.orchestration.core import error_handling
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.remote import retry
from darts_assets.sources import read_item
from tests.e2e.harness import Site, reason
from tests.servers.network.no_sockets import NO_SOCKETS
from tests.servers.stac_api.server import StacApi

RUNS = """
from pathlib import Path
import dagster as dg
from darts_assets.settings import Settings
from tests.e2e.harness import Site, reason

folder, settings, *scenes = sys.argv[1:]
with dg.DagsterInstance.from_config(folder) as instance:
    site = Site(Path(folder), Settings.model_validate_json(settings), instance)
    for scene in scenes:
        result = site.run(scene)
        assert result.success, reason(result)
        print("products of", scene)
"""


@pytest.fixture(scope="module")
def catalog(stac_api: StacApi, world: World) -> StacApi:
    """The demo's scenes, as CDSE has them."""
    stac_api.load("sentinel-2-l2a", [read_item(str(item)) for item in world.items])
    return stac_api


def prepare(site: Site, **config: Any) -> dg.ExecuteInProcessResult:
    return site.run_job("prepare_data", "choose_scenes", **config)


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What the last step tells, also where it fails then."""
    (event,) = [
        e for e in result.all_events if e.step_key == "sum_up_data" and (e.is_successful_output or e.is_step_failure)
    ]
    data = event.step_output_data if event.is_successful_output else event.step_failure_data.user_failure_data
    chunks = data.metadata["chunks"].records if "chunks" in data.metadata else ()
    rows = {record.data["cube"]: dict(record.data) for record in chunks}
    return {name: value.value for name, value in data.metadata.items() if name != "chunks"} | rows


# --- what is prepared -------------------------------------------------------------------------------------------------


def test_found_scenes_are_prepared_and_their_chains_run_without_a_socket(
    new_site: Callable[..., Site], catalog: StacApi, world: World
) -> None:
    site = new_site(cdse_url=catalog.url, catalog_pause=0.0)
    result = prepare(site, source="cdse", tiles=["08WMB"], max_cloud_cover=100.0)
    assert result.success, reason(result)
    scenes = [item.stem for item in world.items]
    assert site.materialized("raw_scene") == set(scenes)
    facts = told(result)
    assert (facts["ready"], facts["fetched"]) == (2, 2)
    for layer, cube in (("arcticdem", "arcticdem_10m"), ("tcvis", "tcvis_2024")):
        assert len(site.chunks(layer)) > 0
        assert {facts[cube][what] for what in ("needed", "missing", "filled_now")} == {len(site.chunks(layer))}
        assert "red: 0 missing" in facts[f"coverage_{cube}"]
    assert list((Path(site.settings.store) / "steps").rglob("*.json")) == []
    settings = site.settings.model_copy(update={"offline": True}).model_dump_json()
    modules = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", NO_SOCKETS + RUNS, str(site.folder / "dagster"), settings, *scenes],
        capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": modules},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert site.materialized("products") == set(scenes)


def test_a_prepared_scene_is_recorded_as_if_it_had_its_own_run(
    site: Site, new_site: Callable[..., Site], world: World
) -> None:
    (scene,) = site.register(world.items[0])
    other = new_site("other")
    other.register(world.items[0])
    other.run(scene, "raw_scene")
    assert prepare(site, scene_ids=[scene], auxiliary=False).success
    events = [one.instance.get_latest_data_version_record(SENTINEL2.key("raw_scene")) for one in (site, other)]
    prepared, materialized = [e.event_log_entry.dagster_event.event_specific_data.materialization for e in events]
    versions = ("dagster/data_version", "dagster/code_version", "dagster/data_version_is_user_provided")
    assert {name: prepared.tags[name] for name in versions} == {name: materialized.tags[name] for name in versions}
    assert prepared.metadata.keys() == materialized.metadata.keys()
    assert prepared.metadata["bands"] == materialized.metadata["bands"]
    assert site.chunks("arcticdem") == set()


def test_what_is_there_is_not_fetched_again_unless_forced(site: Site, world: World) -> None:
    scenes = site.register(*world.items)
    assert prepare(site, registered_tiles=["08WMB"], scenes_per_step=1).success
    place = site.place("raw", "cdse", scenes[0])
    before = place.manifest().contents
    again = prepare(site, registered_tiles=["08WMB"])
    assert told(again)["fetched"] == 0
    assert again.get_asset_materialization_events() == []
    assert place.manifest().contents == before
    forced = prepare(site, scene_ids=scenes[:1], force=True)
    assert told(forced)["fetched"] == 1
    assert set(place.manifest().contents.values()).isdisjoint(before.values())


def test_only_auxiliary_data_and_only_the_layers_that_are_used(site: Site, world: World) -> None:
    scenes = site.register(world.items[0])
    assert prepare(site.using(auxiliary=("arcticdem",)), scene_ids=scenes, optical=False).success
    assert site.materialized("raw_scene") == set()
    assert site.chunks("arcticdem")
    assert site.chunks("tcvis") == set()


def test_scenes_that_another_instance_has_fetched_are_recorded(
    site: Site, new_site: Callable[..., Site], world: World
) -> None:
    scenes = site.register(world.items[0])
    prepare(site, scene_ids=scenes)
    other = new_site("other").using(store=site.settings.store)
    other.register(world.items[0])
    assert told(prepare(other, scene_ids=scenes))["fetched"] == 0
    assert other.materialized("raw_scene") == set(scenes)
    assert other.chunks("arcticdem") == site.chunks("arcticdem")


def test_a_dry_run_and_nothing_matched_fetch_nothing(site: Site, world: World) -> None:
    for config in ({"registered_tiles": ["08WMB"]}, {"registered_tiles": ["33UUP"]}):
        result = prepare(site, **config)
        assert result.success
        assert told(result)["scenes"] == "0 scenes match (0 already registered, 0 new)."
    scenes = site.register(world.items[0])
    result = prepare(site, scene_ids=scenes, dry_run=True)
    assert result.success
    assert told(result)["scenes"] == "1 scene matches (1 already registered, 0 new)."
    assert site.materialized("raw_scene") == set()


def test_offline_a_scene_that_was_not_prepared_is_named_with_the_command_that_fetches_it(
    site: Site, world: World, tmp_path: Path
) -> None:
    item = read_item(str(world.items[0]))
    for asset in item["assets"].values():
        asset["href"] = "s3://eodata/" + Path(asset["href"]).name
    path = tmp_path / f"{item['id']}.json"
    path.write_text(json.dumps(item))
    (scene,) = site.register(path)
    for offline in (site.using(offline=True), site.using(offline=True, raw_store=False)):
        why = reason(offline.run(scene, "raw_scene"))
        assert f"scene {scene}: band(s) blue, green, red, nir" in why
        assert f'{{"scene_ids": ["{scene}"]}}' in why
        assert "dagster job execute -m darts_assets -j prepare_data -c /dev/stdin" in why
    unknown = "S2A_33UUP_20230615_0_L2A"
    result = prepare(site.using(offline=True), scene_ids=[unknown])
    assert "earth_search cannot be searched offline (DARTS_OFFLINE)" in reason(result)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_one_bad_scene_is_named_and_the_others_are_prepared(
    site: Site, world: World, copied_item: Callable[..., Path]
) -> None:
    bad = copied_item("S2A_MSIL2A_20230716T200901_N0509_R128_T08WMB_20230716T222222")
    (bad.parent / json.loads(bad.read_text())["assets"]["B03_10m"]["href"]).write_bytes(b"no raster")
    (good, _) = site.register(world.items[0], bad)
    result = prepare(site, registered_tiles=["08WMB"])
    assert not result.success
    why = reason(result)
    assert bad.stem in why
    assert "green" in why
    assert good not in why
    assert "run the same command again to fetch what is missing" in why
    assert site.materialized("raw_scene") == {good}
    assert site.chunks("arcticdem")
    assert site.chunks("tcvis")
    assert told(result)["ready"] == 1


def test_a_service_that_is_down_is_tried_again_and_what_was_fetched_is_not(
    site: Site, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_handling, "SOURCE_RETRY_SECONDS", 0)
    monkeypatch.setattr(retry, "BACKOFF", (0.0, 0.0))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")  # where services that cannot be reached are tried again
    item = read_item(str(world.items[1]))
    for asset in item["assets"].values():
        asset["href"] = "http://127.0.0.1:9/" + Path(asset["href"]).name
    path = tmp_path / f"{item['id']}.json"
    path.write_text(json.dumps(item))
    down, good = site.register(path, world.items[0])
    site.run(good, "raw_scene")
    result = prepare(site, scene_ids=[good, down], force=True)
    assert f"{down}: SourceUnavailableError" in reason(result)
    assert site.materialized("raw_scene") == {good}
    assert len([event for event in result.all_events if event.is_step_up_for_retry]) == 3
    logs = site.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    fetched = [log for log in logs if log.dagster_event.asset_key == SENTINEL2.key("raw_scene")]
    assert [log.dagster_event.partition for log in fetched] == [good], "forced once, not with each attempt"
    assert site.chunks("arcticdem"), "the other one's chunks"


def test_unknown_ids_are_named_and_the_others_are_prepared(site: Site, world: World) -> None:
    scenes = site.register(world.items[0])
    result = prepare(site, scene_ids=[*scenes, "nonsense"])
    assert "1 malformed scene id(s): 'nonsense'" in reason(result)
    assert site.materialized("raw_scene") == set(scenes)


def test_chunks_that_cannot_be_had_are_named_after_everything_else(site: Site, world: World) -> None:
    scenes = site.register(world.items[0])
    result = prepare(site.using(tcvis="gone-{vintage}.tif"), scene_ids=scenes)
    assert "chunks of tcvis_2024: " in reason(result)
    assert site.materialized("raw_scene") == set(scenes)
    assert site.chunks("arcticdem")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "exactly one of scene_ids, ids_file, tiles, aoi, registered_tiles"),
        (
            {"scene_ids": ["x"], "optical": False, "auxiliary": False},
            "optical and auxiliary are both off: nothing to prepare",
        ),
        ({"scene_ids": ["x"], "scenes_per_step": 0}, "scenes_per_step: 0; expected at least 1"),
    ],
)
def test_senseless_choices_are_refused(site: Site, config: dict[str, Any], words: str) -> None:
    assert words in reason(prepare(site, **config))


def test_scenes_are_fetched_within_the_quota_of_their_service(site: Site) -> None:
    job = site.defs.resolve_job_def("prepare_data")
    assert job.graph.node_dict["fetch_scenes"].definition.pool == "cdse"
    assert site.defs.resolve_asset_graph().get(SENTINEL2.key("raw_scene")).pools == {"cdse"}


def test_the_raw_scene_says_where_it_is_from_and_what_was_verified(site: Site, world: World) -> None:
    (scene,) = site.register(world.items[0])
    prepare(site, scene_ids=[scene], auxiliary=False)
    manifest = site.place("raw", "cdse", scene).require()
    item = read_item(str(world.items[0]))
    assert manifest.metadata["item"] == item
    assert manifest.metadata["source"] == "cdse"
    assert manifest.metadata["provenance"]["code_version"]
    expected = {band: item["assets"][f"B0{number}_10m"]["file:checksum"] for band, number in
                (("blue", 2), ("green", 3), ("red", 4), ("nir", 8))}  # fmt: skip
    assert expected.items() <= manifest.metadata["checksums"].items()
    assert all(band in manifest.contents for band in expected)

"""The sensor of Planet's deliveries as Dagster evaluates it, tick by tick, while files arrive."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.partitions import PLANET
from darts_assets.orchestration.core.resources import SourceAccess
from darts_assets.orchestration.scene_discovery.planet_selection import DeliveryFolders
from darts_assets.settings import Settings
from tests.sample_data.planet_deliveries import EARLIER, ORTHOTILE, SCENE, rest, write_image, write_manifest


@dataclass
class Watcher:
    """A sensor and what Dagster keeps for it.

    Attributes:
        folder: everything is below it; deliveries arrive in `inbox`.
        instance: Dagster's.
        more: attributes of the resource.
    """

    folder: Path
    instance: dg.DagsterInstance
    cursor: str | None = None
    more: dict[str, Any] = field(default_factory=dict)
    watched: list[str] | None = None

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @cached_property
    def defs(self) -> dg.Definitions:
        return build_defs(Settings(store=str(self.folder / "store")))

    def evaluate(self) -> Any:
        """What the sensor says; no run is created."""
        folders = [str(self.inbox)] if self.watched is None else self.watched
        deliveries = DeliveryFolders(access=SourceAccess(), folders=folders, **self.more)
        defs = self.defs
        resources = {**(defs.resources or {}), "deliveries": deliveries}
        with dg.build_sensor_context(
            self.instance, self.cursor, definitions=defs, resources=resources, instance_ref=self.instance.get_ref()
        ) as context:
            return defs.resolve_sensor_def("new_planet_images").evaluate_tick(context)

    def tick(self) -> list[str]:
        """A tick as the daemon does it, but that runs stay where they are; the images that were requested."""
        said = self.evaluate()
        for request in said.run_requests:
            self.instance.add_run(dg.DagsterRun(job_name="planet_chain", tags=request.tags))
        self.cursor = said.cursor
        self.said = str(said.skip_message)
        return [request.partition_key for request in said.run_requests]

    @property
    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions("planet_image"))


@pytest.fixture
def watcher(tmp_path: Path, empty_home: Path) -> Iterator[Watcher]:
    home = shutil.copytree(empty_home, tmp_path / "dagster")
    (tmp_path / "inbox").mkdir()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Watcher(tmp_path, instance)


def test_it_is_off_at_first_and_says_when_nothing_is_watched(watcher: Watcher) -> None:
    sensor = build_defs(Settings()).resolve_sensor_def("new_planet_images")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert sensor.job_name == "planet_chain"
    watcher.watched = []
    assert watcher.tick() == []
    assert "No folders are watched: set DARTS_PLANET" in watcher.said


def test_images_that_rest_between_two_ticks_are_registered_and_requested_once(watcher: Watcher) -> None:
    for image in (SCENE, ORTHOTILE):
        write_image(watcher.inbox, image)
    rest(watcher.inbox)
    assert watcher.tick() == []
    assert watcher.said == "2 images: 2 incomplete", "nobody knows yet whether they still grow"
    said = watcher.evaluate()
    assert [request.run_key for request in said.run_requests] == [SCENE, ORTHOTILE]
    assert said.run_requests[0].tags["darts/folder"] == str(watcher.inbox / SCENE)
    assert watcher.tick() == [SCENE, ORTHOTILE], "the daemon was killed before it noted the requests"
    assert watcher.partitions == {SCENE, ORTHOTILE}
    assert watcher.tick() == []
    assert watcher.said == "2 images: none new"
    watcher.cursor = None
    assert [watcher.tick(), watcher.tick()] == [[], []], "nothing is lost or repeated without the cursor either"


def test_a_delivery_is_waited_for_until_nothing_changes(watcher: Watcher) -> None:
    folder = write_image(watcher.inbox, SCENE)
    assert [watcher.tick(), watcher.tick()] == [[], []], "written just now"
    rest(watcher.inbox)
    assert watcher.tick() == [], "another time of writing"
    with next(folder.glob("*_metadata.json")).open("a") as file:
        file.write(" ")
    rest(watcher.inbox)
    assert watcher.tick() == [], "it has grown"
    (folder / "later.txt").write_text("")
    rest(watcher.inbox)
    assert watcher.tick() == [], "a file has come"
    assert watcher.tick() == [SCENE]


def test_old_times_that_were_copied_along_do_not_make_a_delivery_complete(watcher: Watcher) -> None:
    """As `rsync --times` and `cp --preserve` copy: each file is years old as soon as it is there."""
    whole = write_image(watcher.folder / "elsewhere", SCENE)
    target = watcher.inbox / SCENE
    target.mkdir()
    for path in sorted(whole.iterdir()):
        (target / path.name).write_bytes(path.read_bytes())
        rest(watcher.inbox, 3e7)
        assert watcher.tick() == []
    assert watcher.tick() == [SCENE]


def test_the_manifest_must_be_satisfied(watcher: Watcher) -> None:
    folder = write_image(watcher.inbox, SCENE)
    write_image(watcher.inbox, EARLIER)
    write_manifest(watcher.inbox)
    mask = next(folder.glob("*udm2*"))
    content = mask.read_bytes()
    mask.write_bytes(content[:-1])
    rest(watcher.inbox)
    assert watcher.tick() == []
    assert watcher.tick() == [EARLIER]
    assert watcher.tick() == []
    assert watcher.said == "2 images: 1 incomplete"
    mask.write_bytes(content)
    rest(watcher.inbox)
    assert watcher.tick() == [], "it has changed since"
    assert watcher.tick() == [SCENE]


def test_a_broken_delivery_is_told_and_looked_at_again_when_it_has_changed(watcher: Watcher) -> None:
    folder = write_image(watcher.inbox, SCENE)
    mask = next(folder.glob("*udm2*"))
    content = mask.read_bytes()
    mask.unlink()
    write_image(watcher.inbox, EARLIER)
    rest(watcher.inbox)
    watcher.tick()
    assert watcher.tick() == [EARLIER], "others go on"
    assert watcher.tick() == []
    assert watcher.said == "2 images: 1 unusable", "told once, counted from then on"
    assert json.loads(watcher.cursor or "")["broken"].keys() == {SCENE}
    watcher.cursor = None
    watcher.tick()
    watcher.tick()
    assert "has no usable data mask" in watcher.said
    assert watcher.partitions == {EARLIER}
    mask.write_bytes(content)
    rest(watcher.inbox)
    assert [watcher.tick(), watcher.tick()] == [[], [SCENE]]


def test_an_image_in_two_folders_is_told_unless_it_is_known(watcher: Watcher) -> None:
    write_image(watcher.inbox / "one", SCENE)
    write_image(watcher.inbox / "two", SCENE)
    rest(watcher.inbox)
    assert [watcher.tick(), watcher.tick()] == [[], []]
    assert "is in 2 folders, and none is taken" in watcher.said
    watcher.instance.report_runless_asset_event(dg.AssetMaterialization(PLANET.key("products"), partition=SCENE))
    watcher.tick()
    assert watcher.said == "2 images: none new"


def test_images_with_products_are_left_alone(watcher: Watcher) -> None:
    write_image(watcher.inbox, SCENE)
    rest(watcher.inbox)
    watcher.instance.report_runless_asset_event(dg.AssetMaterialization(PLANET.key("products"), partition=SCENE))
    assert [watcher.tick(), watcher.tick()] == [[], []]
    assert watcher.partitions == set()


def test_a_tick_requests_a_bounded_number_and_the_cursor_stays_small(watcher: Watcher) -> None:
    images = [f"20230817_19{minute:02d}00_2442" for minute in range(12)]
    for image in images:
        write_image(watcher.inbox, image, side=16)
    rest(watcher.inbox)
    watcher.more = {"runs": 3, "remembered": 8}
    requested = []
    for _ in range(10):
        now = watcher.tick()
        requested += now
        assert len(now) <= 3
        assert len(json.loads(watcher.cursor or "")["seen"]) <= 8
    assert sorted(requested) == images


def test_a_folder_that_cannot_be_read_does_not_keep_others_from_being_watched(watcher: Watcher) -> None:
    write_image(watcher.inbox, SCENE)
    rest(watcher.inbox)
    watcher.watched = [str(watcher.folder / "gone"), str(watcher.inbox)]
    assert watcher.tick() == []
    assert "gone: the folder does not exist; retrying in the next tick" in watcher.said
    assert watcher.tick() == [SCENE]


def test_too_little_time_loses_nothing(watcher: Watcher) -> None:
    write_image(watcher.inbox, SCENE)
    rest(watcher.inbox)
    watcher.tick()
    watcher.more = {"seconds": 0.0}
    assert watcher.tick() == []
    assert "timed out after 0 s" in watcher.said
    watcher.more = {}
    assert watcher.tick() == [SCENE], "it has not begun to wait anew"


def test_a_cursor_of_something_else_begins_anew(watcher: Watcher) -> None:
    write_image(watcher.inbox, SCENE)
    rest(watcher.inbox)
    watcher.cursor = '{"areas": {}}'
    assert [watcher.tick(), watcher.tick()] == [[], [SCENE]]


def test_offline_a_bucket_is_not_asked(watcher: Watcher) -> None:
    watcher.watched, watcher.more = ["s3://bucket/planet"], {"offline": True}
    assert watcher.tick() == []
    assert "offline (DARTS_OFFLINE): s3://bucket/planet cannot be searched; set local folders" in watcher.said

"""Released tiles: which, what remains of them, readers, writers at the same moment, kills, and the catalog."""

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from darts_assets.errors import NotReadableError, StoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.pointer import Pointer
from darts_assets.stores.publish import ZARR, Place
from darts_assets.stores.replaced_versions import collect_replaced, place_at
from darts_assets.stores.scene_paths import scene_paths
from darts_assets.stores.tile_retention import (
    STEPS,
    parse_retention,
    release_scene,
    release_tiles,
    released_inputs,
    released_steps,
    require_tile,
)
from tests.servers.s3.moto_server import CREDENTIALS, S3Server
from tests.stores.killed_writer import SCENE, mention

FAMILY = "sentinel2"
HOUR, NOTHING = dt.timedelta(hours=1), dt.timedelta(0)
AT_ONCE = dict.fromkeys(STEPS, 0.0)
PLACES = {
    "raw_scene": ("raw", "cdse", SCENE),
    "preprocessed_tile": ("tiles", FAMILY, "preprocessed_tile", SCENE),
    "segmentation": ("tiles", FAMILY, "segmentation", SCENE),
    "polygons": ("vectors", FAMILY, "polygons", SCENE),
    "products": ("products", FAMILY, SCENE),
}
_BEFORE = {"preprocessed_tile": "raw_scene", "segmentation": "preprocessed_tile", "polygons": "segmentation"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(params=["path", pytest.param("s3", marks=pytest.mark.slow)])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreLocation:
    if request.param == "path":
        return StoreLocation(str(tmp_path / "store"))
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server: S3Server = request.getfixturevalue("server")
    return server.location(tmp_path.name.replace("_", "-")[-30:].strip("-").lower())


def place_of(root: StoreLocation, step: str, grace: dt.timedelta = HOUR) -> Place:
    return place_at(root, *PLACES[step], grace=grace)


def facts(step: str, version: str = "1") -> dict[str, Any]:
    inputs = {_BEFORE[step]: f"{_BEFORE[step]}-{version}"} if step in _BEFORE else {}
    return {"data_version": f"{step}-{version}", "inputs": inputs}


def publish(root: StoreLocation, step: str, version: str = "1") -> str:
    """Publish a result of a step, made from results of the same version; returns the name of its folder."""
    metadata: dict[str, Any] = {"provenance": facts(step, version), "statistics": {"red": 1}}
    if step == "products":
        of_steps = {name: facts(name, version) for name in ("preprocessed_tile", "segmentation", "polygons")}
        tiles = {name: {"key": "/".join(PLACES[name]), "bands": ["red"]} for name in STEPS}
        metadata |= {"metadata": {"steps": of_steps}, "tiles": tiles}
    place = place_of(root, step)
    with place.new_version(ZARR if step in STEPS else "") as written:
        obstore.put(written.location.objects(), "red", step.encode())
        place.publish(written, {"red": written.id}, metadata)
    return written.id


def process(root: StoreLocation, version: str = "1") -> dict[str, str]:
    return {step: publish(root, step, version) for step in PLACES}


def release(root: StoreLocation, days: dict[str, float] = AT_ONCE, grace: dt.timedelta = HOUR) -> tuple[list[str], int]:
    return release_scene(root, FAMILY, SCENE, days, grace)


def value(root: StoreLocation, step: str, version: str) -> bytes:
    return bytes(obstore.get(place_of(root, step).location.child(version).objects(), "red").bytes())


def test_settings() -> None:
    assert parse_retention("all") == parse_retention("") == {}
    assert parse_retention("until_products") == AT_ONCE
    assert parse_retention("30d") == dict.fromkeys(STEPS, 30.0)
    assert parse_retention("preprocessed_tile=until_products, segmentation=0.5d") == {
        "preprocessed_tile": 0.0, "segmentation": 0.5,
    }  # fmt: skip
    assert parse_retention("raw_scene=all,until_products") == {"preprocessed_tile": 0.0, "segmentation": 0.0}


@pytest.mark.parametrize("text", ["never", "30", "polygons=30d", "raw_scene=", "-1d", "=30d"])
def test_wrong_settings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected all, until_products, a number of days such as 30d"):
        parse_retention(text)


def test_tiles_of_finished_scenes_are_released_and_their_records_stay(root: StoreLocation) -> None:
    versions = process(root)
    assert released_steps(root, FAMILY, SCENE) == []
    assert release(root) == (list(STEPS), 0)
    for step in STEPS:
        manifest = place_of(root, step).require()
        assert manifest.contents == {}
        assert manifest.metadata["provenance"] == facts(step)
        assert manifest.metadata["statistics"] == {"red": 1}
        assert value(root, step, versions[step]) == step.encode(), "for readers that have opened it"
        with pytest.raises(NotReadableError, match=f"released on .* to save space .*'key:\"sentinel2/{step}\"'"):
            place_of(root, step).current_url()
    assert place_of(root, "products").require().metadata["tiles"] == {}
    assert scene_paths(root, SCENE).keys() == {"polygons", "products"}
    assert release(root, grace=NOTHING) == ([], 3)
    for step in STEPS:
        with pytest.raises(FileNotFoundError):
            value(root, step, versions[step])
        assert place_of(root, step).require().released is not None
    assert value(root, "products", versions["products"]) == b"products"
    assert release(root, grace=NOTHING) == ([], 0)


def test_the_error_has_the_command_for_everything_that_is_needed(root: StoreLocation) -> None:
    process(root)
    release(root, {"raw_scene": 0, "segmentation": 0})
    assert released_steps(root, FAMILY, SCENE) == ["raw_scene", "segmentation"]
    assert released_inputs(root, FAMILY, SCENE, "products") == ["segmentation"], "the tile between is there"
    assert released_inputs(root, FAMILY, SCENE, "preprocessed_tile") == ["raw_scene"]
    release(root)
    assert released_inputs(root, FAMILY, SCENE, "polygons") == list(STEPS)
    assert released_inputs(root, FAMILY, SCENE, "raw_scene") == []
    with pytest.raises(NotReadableError) as refused:
        require_tile(root, place_of(root, "segmentation"), FAMILY, "segmentation", SCENE)
    assert str(refused.value).endswith(
        'First make them again: dagster asset materialize -m darts_assets --select \'key:"sentinel2/raw_scene" or '
        f'key:"sentinel2/preprocessed_tile" or key:"sentinel2/segmentation"\' --partition {SCENE}'
    )


def test_a_released_tile_is_made_again_and_released_again(root: StoreLocation) -> None:
    process(root)
    release(root)
    again = process(root, "2")
    assert released_steps(root, FAMILY, SCENE) == []
    assert value(root, "segmentation", again["segmentation"]) == b"segmentation"
    assert release(root)[0] == list(STEPS)


@pytest.mark.parametrize("absent", ["products", "polygons", "segmentation"])
def test_a_scene_that_is_not_finished_keeps_its_tiles(tmp_path: Path, absent: str) -> None:
    root = StoreLocation(str(tmp_path))
    for step in PLACES:
        if step != absent:
            publish(root, step)
    assert "preprocessed_tile" not in release(root)[0]


@pytest.mark.parametrize("step", ["raw_scene", "preprocessed_tile", "segmentation", "polygons"])
def test_what_is_newer_than_the_products_keeps_what_it_is_made_from(tmp_path: Path, step: str) -> None:
    root = StoreLocation(str(tmp_path))
    process(root)
    publish(root, step, "2")
    others = set(STEPS) - set(list(PLACES)[: list(PLACES).index(step) + 1])
    assert set(release(root)[0]) == (others if step != "polygons" else set())


def test_a_run_that_makes_the_same_again_keeps_its_tiles(tmp_path: Path) -> None:
    root = StoreLocation(str(tmp_path))
    process(root)
    time.sleep(1.1)  # versions are named by seconds
    publish(root, "preprocessed_tile")
    assert release(root)[0] == ["segmentation"]
    publish(root, "products")
    assert "preprocessed_tile" in release(root)[0]


def test_days(tmp_path: Path) -> None:
    root = StoreLocation(str(tmp_path))
    process(root)
    assert release(root, {"segmentation": 1.0}) == ([], 0)
    time.sleep(1.1)
    assert release(root, {"segmentation": 1 / 86400}) == (["segmentation"], 0)


def test_a_writer_wins_over_the_release(root: StoreLocation) -> None:
    process(root)
    place = place_of(root, "segmentation")
    with place.new_version(ZARR) as written:
        assert "segmentation" not in release(root)[0]
        obstore.put(written.location.objects(), "red", b"new")
        place.publish(written, {"red": written.id}, {"provenance": facts("segmentation", "2")})
    assert place.require().contents == {"red": written.id}


def test_a_writer_that_starts_at_the_same_moment_wins(root: StoreLocation) -> None:
    process(root)
    place = place_of(root, "segmentation")
    writing = place.new_version(ZARR)

    def change(manifest: Any) -> Any:
        change.version = writing.__enter__()  # type: ignore[attr-defined]
        return type(manifest)({}, manifest.metadata | {"released": {"since": "2026-01-01", "again": "x"}}, {})

    assert place.amend(change) is None
    place.publish(change.version, {"red": change.version.id}, {})  # type: ignore[attr-defined]
    writing.__exit__(None, None, None)
    assert place.require().released is None
    assert place.require().contents == {"red": change.version.id}  # type: ignore[attr-defined]


def test_tiles_that_the_catalog_mentions_stay(root: StoreLocation) -> None:
    versions = process(root)
    mention(root, versions["segmentation"])
    release(root, {"segmentation": 0.0})
    assert release(root, grace=NOTHING, days={}) == ([], 0)
    assert collect_replaced(root, NOTHING, lambda line: None).removed == 0
    assert value(root, "segmentation", versions["segmentation"]) == b"segmentation"
    mention(root, "its next item has no such asset")
    assert collect_replaced(root, NOTHING, lambda line: None).removed == 1, "the other job removes it too"


@pytest.mark.parametrize("moment", range(7))
def test_kills_leave_a_tile_whole_or_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    root, puts = StoreLocation(str(tmp_path)), 0
    versions = process(root)
    replace = Pointer.replace

    def killed(self: Pointer, *arguments: Any) -> Any:
        nonlocal puts
        puts += 1
        if puts > moment:
            raise KeyboardInterrupt
        return replace(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Pointer, "replace", killed)
        if moment < 6:
            with pytest.raises(KeyboardInterrupt):
                release(root)
        else:
            release(root)
    released = released_steps(root, FAMILY, SCENE)
    assert released == list(STEPS[: moment // 2])
    named = place_of(root, "products").require().metadata["tiles"]
    assert not named.keys() & set(released), "the catalog never refers to a released tile"
    for step in STEPS:
        place = place_of(root, step)
        if step not in released:
            assert place.require_values().contents == {"red": versions[step]}
        assert value(root, step, versions[step]) == step.encode()
    release(root)
    assert released_steps(root, FAMILY, SCENE) == list(STEPS)


def test_all_scenes_of_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, lines = StoreLocation(str(tmp_path)), list[str]()
    assert release_tiles(root, ["sentinel2", "planet"], AT_ONCE, HOUR, progress=lines.append).scenes == 0
    process(root)
    busy = release_tiles(root, ["sentinel2", "planet"], AT_ONCE, HOUR, busy={SCENE}, progress=lines.append)
    assert (busy.scenes, busy.tiles) == (0, [])
    done = release_tiles(root, ["sentinel2", "planet"], AT_ONCE, HOUR, progress=lines.append)
    assert done.tiles == [("sentinel2", step, SCENE) for step in STEPS]
    assert (done.scenes, done.removed, done.problems) == (1, 0, {})
    assert lines == ["1 scenes examined, 3 tiles released"]
    (tmp_path / "tiles" / FAMILY / "segmentation" / SCENE / "current.json").write_text("{")
    damaged = release_tiles(root, ["sentinel2"], AT_ONCE, HOUR, progress=lines.append)
    assert damaged.tiles == []
    assert "current.json is damaged" in damaged.problems[SCENE]


def test_nothing_is_amended_where_nothing_is_published(tmp_path: Path) -> None:
    place = Place(StoreLocation(str(tmp_path)).child("tiles", "scene"))
    assert place.amend(lambda manifest: manifest) is None
    with pytest.raises(StoreError, match="nothing has been published"):
        place.require_values()

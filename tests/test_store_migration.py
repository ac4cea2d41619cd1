"""Tiles of former releases are converted without reading a band, whenever the command is interrupted."""

import json
import operator
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from zarr.storage import ObjectStore

from darts_assets import store_migration
from darts_assets.bands import stored_band
from darts_assets.cli import cli
from darts_assets.errors import NotReadableError
from darts_assets.store_migration import AT_ONCE, MigratedStore, migrate_store
from darts_assets.stores import former_tiles
from darts_assets.stores.bring_in import bring_in
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.stores.replaced_versions import place_at
from darts_assets.stores.tiles import read_geobox, read_tile, write_tile
from darts_assets.tiles import geobox_of
from tests.servers.s3.moto_server import CREDENTIALS, S3Server
from tests.stores.test_publish import GRID, stream, tile

PARTS = ("raw", "cdse", "scene 1")


def former(root: StoreLocation) -> StoreLocation:
    """A raw scene as the release before wrote it: two bands in two versions, one fetched after the other."""
    location = root.child(*PARTS[:-1], f"{PARTS[-1]}.zarr")
    contents, metadata = {}, {}
    for band, stamp in (("red", "20240101T000000Z-abcdef01"), ("tc_wetness", "20240102T000000Z-abcdef02")):
        scratch = Place(root.child("scratch", band))
        write_tile(scratch, stream(tile()[[band]]), metadata={"provenance": {"data_version": "1"}})
        manifest = scratch.require()
        source = scratch.location.child(*manifest.versions)
        zarr.create_group(ObjectStore(location.child(stamp).objects()), zarr_format=3)
        for name in (band, "x", "y", "spatial_ref"):
            bring_in(source, location.child(stamp), name)
        undescribe(location.child(stamp, band))
        contents[band], metadata = stamp, metadata | manifest.metadata
    body = {"contents": contents, "metadata": metadata, "writer": None, "revision": "1"}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"darts_assets": body}}
    obstore.put(location.objects(), "zarr.json", json.dumps(group).encode())
    return location


def undescribe(band: StoreLocation) -> None:
    """Leave a band the attributes that the release before gave it."""
    array = json.loads(bytes(obstore.get(band.objects(), "zarr.json").bytes()))
    kept = ("scale_factor", "add_offset", "_FillValue")
    attributes = {name: value for name, value in array["attributes"].items() if name in kept}
    array["attributes"] = attributes | {"units": "1/100 m", "grid_mapping": "spatial_ref"}
    obstore.put(band.objects(), "zarr.json", json.dumps(array).encode())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def root(tmp_path: Path) -> StoreLocation:
    return StoreLocation(str(tmp_path / "store"))


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> StoreLocation:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return server.location("root")


def test_a_former_tile_is_refused_until_it_is_converted(root: StoreLocation) -> None:
    location = former(root)
    place = place_at(root, *PARTS, grace=timedelta(0))
    for use in (place.manifest, lambda: write_tile(place, stream(tile()), metadata={})):
        with pytest.raises(
            NotReadableError, match=r"scene 1\.zarr was written by a former release.*darts-assets migrate"
        ):
            use()
    inode = (location.path / "20240101T000000Z-abcdef01/red/c/0/0").stat().st_ino
    before = root.path / "before.json"
    before.hardlink_to(location.path / "20240101T000000Z-abcdef01/red/zarr.json")
    lines: list[str] = []
    assert migrate_store(root, lines.append).tiles == 1
    assert lines == ["1 tiles of a former release", f"1 of 1: {location} converted"]
    _assert_converted(root)
    assert (Path(place.current_url()) / "red/c/0/0").stat().st_ino == inode, "not copied"
    assert json.loads(before.read_text())["attributes"]["units"] == "1/100 m", "the former band is unchanged"
    assert migrate_store(root, lines.append).tiles == 0


@pytest.mark.slow
def test_on_s3_the_server_copies_the_bands(bucket: StoreLocation, server: S3Server) -> None:
    former(bucket)
    server.requests()
    assert migrate_store(bucket, lambda line: None).tiles == 1
    chunks = [request.split()[0] for request in server.requests() if "/c/0/0" in request and "tc_wetness" in request]
    assert chunks == ["PUT"], "copied, not read"
    _assert_converted(bucket)
    assert migrate_store(bucket, lambda line: None) == MigratedStore()


@pytest.mark.parametrize("step", ["bring_in", "_describe", "finish_version", "shutil.rmtree"])
@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_conversion_is_repeated(
    root: StoreLocation, monkeypatch: pytest.MonkeyPatch, step: str, call: int
) -> None:
    _interrupt_and_repeat(root, monkeypatch, step, call)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "call"), [("bring_in", 2), ("obstore.delete", 2)])
def test_an_interrupted_conversion_is_repeated_on_s3(
    bucket: StoreLocation, monkeypatch: pytest.MonkeyPatch, step: str, call: int
) -> None:
    _interrupt_and_repeat(bucket, monkeypatch, step, call)


def _interrupt_and_repeat(root: StoreLocation, monkeypatch: pytest.MonkeyPatch, step: str, call: int) -> None:
    former(root)
    calls, original = [], operator.attrgetter(step)(former_tiles)

    def interrupted(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        original(*arguments)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(f"darts_assets.stores.former_tiles.{step}", interrupted)
        migrate_store(root, lambda line: None)
    migrate_store(root, lambda line: None)
    _assert_converted(root)


def test_other_folders_are_left_alone(root: StoreLocation) -> None:
    foreign = root.child("raw", "cdse", "mine.zarr")
    zarr.create_group(ObjectStore(foreign.objects()), zarr_format=3)
    place = place_at(root, "raw", "cdse", "new", grace=timedelta(0))
    write_tile(place, stream(tile()), metadata={})
    assert migrate_store(root, lambda line: None).tiles == 0
    assert (foreign.path / "zarr.json").exists()
    assert place.manifest() is not None


def _assert_converted(root: StoreLocation) -> None:
    place = place_at(root, *PARTS, grace=timedelta(0))
    assert place.require().metadata["provenance"] == {"data_version": "1"}
    assert geobox_of(read_tile(place)) == read_geobox(place) == GRID
    np.testing.assert_allclose(read_tile(place)["red"].values, tile()["red"].values, atol=6e-5)
    options = None if root.is_local else {"endpoint_url": root.endpoint, "use_listings_cache": False}
    with xr.open_zarr(place.current_url(), storage_options=options) as opened:
        np.testing.assert_array_equal(opened["tc_wetness"].values, tile()["tc_wetness"].values)
        for name in ("red", "tc_wetness"):
            described = stored_band(name, opened[name].encoding["dtype"]).description()
            described.setdefault("units", "1/100 m")
            assert {key: opened[name].attrs[key] for key in described} == described
        assert opened["red"].encoding["scale_factor"] == 1e-4
    assert root.child(*PARTS[:-1]).folders() == [PARTS[-1]]


def test_a_damaged_tile_is_reported_and_the_others_are_converted(root: StoreLocation) -> None:
    former(root)
    bad = root.child("raw", "cdse", "another.zarr")
    body = {"darts_assets": {"contents": {"red": "20240101T000000Z-abcdef01"}, "metadata": {}}}
    obstore.put(bad.objects(), "zarr.json", json.dumps({"attributes": body}).encode())
    done = migrate_store(root, lambda line: None)
    assert done.tiles == 1
    assert list(done.problems) == [str(bad)]
    assert "20240101T000000Z-abcdef01/red does not exist" in done.problems[str(bad)]


def test_products_of_a_former_release_get_their_stable_path(root: StoreLocation) -> None:
    place = Place(root.child("products", "sentinel2", "scene 1"))
    with place.new_version() as version:
        obstore.put(version.location.objects(), "a.txt", b"1")
        place.publish(version, {"a.txt": version.id}, {})
    latest = root.path / "products/sentinel2/scene 1/latest/a.txt"
    assert not latest.exists()
    migrate_store(root, lambda line: None)
    assert latest.read_text() == "1"


def test_tiles_are_converted_at_the_same_time_and_not_all_at_once(
    root: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    formers = [root.child("raw", "cdse", f"{number}.zarr") for number in range(2 * AT_ONCE)]
    together, active, most = threading.Barrier(AT_ONCE), set[str](), []

    def convert(location: StoreLocation) -> None:
        active.add(location.url)
        most.append(len(active))
        together.wait(timeout=20)
        active.discard(location.url)

    monkeypatch.setattr(store_migration, "former_tiles", lambda root: iter(formers))
    monkeypatch.setattr(store_migration, "migrate_tile", convert)
    lines: list[str] = []
    assert migrate_store(root, lines.append).tiles == 2 * AT_ONCE
    assert max(most) == AT_ONCE
    assert [line.partition(":")[0] for line in lines[1:]] == [f"{n} of 16" for n in range(1, 17)]


def test_the_last_words_of_the_command(root: StoreLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTS_STORE", root.url)
    location = former(root)

    def run() -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["migrate"])
        return result.exit_code, result.output.splitlines()[-1]

    with monkeypatch.context() as patch:
        patch.setattr(former_tiles, "finish_version", lambda *arguments: _raise(KeyboardInterrupt()))
        assert run() == (1, "Error: interrupted; `darts-assets migrate` converts the rest")
    with monkeypatch.context() as patch:
        patch.setattr(former_tiles, "finish_version", lambda *arguments: _raise(OSError(28, "disk")))
        code, word = run()
        assert (code, word.partition(" (")[0]) == (1, "Error: 0 tiles and 0 cubes converted, 1 failed")
    assert location.path.is_dir()
    assert run() == (0, "1 tiles and 0 cubes converted; the store has the layout of this release")
    _assert_converted(root)


def _raise(error: BaseException) -> None:
    raise error

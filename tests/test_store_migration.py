"""Tiles of former releases are converted without reading a band, whenever the command is interrupted."""

import json
import operator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import xarray as xr
import zarr
from zarr.storage import ObjectStore

from darts_assets.errors import NotReadableError
from darts_assets.store_migration import migrate_store
from darts_assets.stores import former_tiles
from darts_assets.stores.bring_in import bring_in
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.stores.replaced_versions import place_at
from darts_assets.stores.tiles import read_geobox, read_tile, write_tile
from darts_assets.tiles import geobox_of
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
        contents[band], metadata = stamp, metadata | manifest.metadata
    body = {"contents": contents, "metadata": metadata, "writer": None, "revision": "1"}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"darts_assets": body}}
    obstore.put(location.objects(), "zarr.json", json.dumps(group).encode())
    return location


@pytest.fixture
def root(tmp_path: Path) -> StoreLocation:
    return StoreLocation(str(tmp_path / "store"))


def test_a_former_tile_is_refused_until_it_is_converted(root: StoreLocation) -> None:
    location = former(root)
    place = place_at(root, *PARTS, grace=timedelta(0))
    for use in (place.manifest, lambda: write_tile(place, stream(tile()), metadata={})):
        with pytest.raises(
            NotReadableError, match=r"scene 1\.zarr was written by a former release.*darts-assets migrate"
        ):
            use()
    inode = (location.path / "20240101T000000Z-abcdef01/red/c/0/0").stat().st_ino
    lines: list[str] = []
    assert migrate_store(root, lines.append).tiles == 1
    assert lines == [f"{location} converted"]
    _assert_converted(root)
    assert (Path(place.current_url()) / "red/c/0/0").stat().st_ino == inode, "not copied"
    assert migrate_store(root, lines.append).tiles == 0


@pytest.mark.parametrize("step", ["bring_in", "finish_version", "shutil.rmtree"])
@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_conversion_is_repeated(
    root: StoreLocation, monkeypatch: pytest.MonkeyPatch, step: str, call: int
) -> None:
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
    with xr.open_zarr(place.current_url()) as opened:
        np.testing.assert_array_equal(opened["tc_wetness"].values, tile()["tc_wetness"].values)
    assert {path.name for path in root.child(*PARTS[:-1]).path.iterdir()} == {PARTS[-1]}


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

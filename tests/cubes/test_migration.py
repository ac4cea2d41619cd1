"""Cubes of earlier versions get their metadata, and nothing else changes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import odc.geo.xr  # noqa: F401 - registers the `odc` accessor
import pytest
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox
from zarr.codecs import BloscCodec

from darts_assets.cubes import ChunkData, Cube, CubeSpec, arcticdem_spec, migrate_cube, tcvis_spec
from darts_assets.cubes.repository import CubeRepository
from darts_assets.errors import CubeError
from darts_assets.stores.location import StoreLocation
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

Read = Callable[[GeoBox], ChunkData]

KEYS = ["10m-r0200-c0300", "10m-r0200-c0301"]


def make_old(location: StoreLocation, spec: CubeSpec) -> Cube:
    """An empty cube as version 0.1.0 made it."""
    session = CubeRepository(location).open_or_create().writable_session("main")
    group = zarr.create_group(
        session.store, attributes={"title": spec.title, "source": spec.source, "darts_assets": spec.layout()}
    )
    for v in spec.variables:
        codec = BloscCodec(cname="zstd", clevel=4, shuffle="shuffle", blocksize=1 << 19)
        if v.stored.itemsize == 1:
            codec = BloscCodec(cname="zstd", clevel=3, shuffle="noshuffle")
        attributes = {"long_name": v.long_name, "units": v.units}
        if v.scale is not None:
            attributes |= {"scale_factor": v.scale, "add_offset": v.offset, "_FillValue": v.fill}
        group.create_array(
            v.name, shape=spec.grid.geobox.shape, chunks=(1024, 1024), dtype=v.stored, fill_value=v.fill or 0,
            compressors=codec, attributes=attributes, dimension_names=("y", "x"),
        )  # fmt: skip
    group.create_array("status", shape=spec.grid.shape, chunks=(1, 1), dtype="uint8", fill_value=0, compressors=None)
    session.commit(f"created {spec.name}")
    return Cube(location, spec)


def chunk(cube: Cube, key: str, read: Read) -> dict[str, ChunkData]:
    return {key: read(cube.spec.grid.chunk_geobox(*cube.spec.grid.parse(key)))}


def opened(cube: Cube) -> xr.Dataset:
    session = CubeRepository(cube.location).open().readonly_session("main")
    return xr.open_zarr(session.store)


def chunks(cube: Cube) -> dict[str, bytes]:
    """The chunk objects of a cube."""
    store = cube.location.objects()
    return {key: bytes(store.get(key).bytes()) for key in list(cube.location.keys()) if "chunks/" in key}


@pytest.fixture
def on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreLocation]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    yield server.location("darts", "aux", "arcticdem_10m.icechunk")
    server.stop()


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.slow)])
def old(request: pytest.FixtureRequest, tmp_path: Path, read_surface: Read) -> Cube:
    """A cube of version 0.1.0 with a filled chunk."""
    disk = StoreLocation(str(tmp_path / "aux" / "arcticdem_10m.icechunk"))
    cube = make_old(request.getfixturevalue("on_s3") if request.param == "s3" else disk, arcticdem_spec(10))
    cube.write(chunk(cube, KEYS[0], read_surface), "before")
    return cube


def test_an_old_cube_is_migrated_once(old: Cube, read_surface: Read, make_surface) -> None:
    box = old.spec.grid.chunk_geobox(200, 300)
    stored = chunks(old)
    before = old.window(box).load()
    with pytest.raises(KeyError, match="dimension_names"):
        opened(old)
    assert migrate_cube(old.location) is True
    snapshot = old.snapshot()
    assert opened(old).odc.geobox == old.spec.grid.geobox
    for cube in (old, Cube(old.location, old.spec)):
        xr.testing.assert_equal(cube.window(box), before)
        assert cube.filled(KEYS) == {KEYS[0]}
        assert cube.coverage().data.tolist() == [[200, 300]]
    part = opened(old).dem.isel(y=slice(200 * 1024, 201 * 1024), x=slice(300 * 1024, 301 * 1024))
    np.testing.assert_allclose(part, make_surface(box), atol=0.00502)
    after = chunks(old)
    assert stored.items() <= after.items()
    assert len(after) == len(stored) + 2  # pixel numbers
    assert migrate_cube(old.location) is False
    assert old.snapshot() == snapshot
    old.write(chunk(old, KEYS[1], read_surface), "after")
    assert Cube(old.location, old.spec).filled(KEYS) == set(KEYS)


def documents(cube: Cube) -> dict[str, object]:
    root = zarr.open_group(CubeRepository(cube.location).open().readonly_session("main").store, mode="r")
    return {"": dict(root.attrs)} | {name: array.metadata.to_dict() for name, array in root.arrays()}


def test_a_migrated_cube_equals_a_new_one(tmp_path: Path) -> None:
    for spec in (arcticdem_spec(2), tcvis_spec(2024)):
        old = make_old(StoreLocation(str(tmp_path / "old" / f"{spec.name}.icechunk")), spec)
        new = Cube(StoreLocation(str(tmp_path / "new" / f"{spec.name}.icechunk")), spec)
        new.create()
        assert migrate_cube(old.location)
        assert not migrate_cube(new.location)
        assert documents(old) == documents(new)


def test_an_old_cube_is_read_and_filled_before_its_migration(old: Cube, read_surface: Read, make_surface) -> None:
    documents_before = documents(old)
    fresh = Cube(old.location, old.spec)
    assert fresh.missing(KEYS) == KEYS[1:]
    fresh.write(chunk(old, KEYS[1], read_surface), "later")
    box = old.spec.grid.geobox[200 * 1024 : 201 * 1024, 300 * 1024 : 302 * 1024]
    np.testing.assert_allclose(fresh.window(box).dem, make_surface(box), atol=0.00502)
    assert documents(old) == documents_before


@pytest.mark.parametrize("first", ["migration", "writer"])
def test_a_writer_and_a_migration_at_once_both_succeed(old: Cube, read_surface: Read, first: str) -> None:
    keys = [old.spec.grid.key(210, 300 + i) for i in range(2)]
    writers = Cube(old.location, old.spec)
    calls = [
        lambda: migrate_cube(old.location),
        lambda: writers.write(chunk(old, keys[0], read_surface), "another writer") == {keys[0]: writers.snapshot()},
    ]
    commit = CubeRepository.commit

    def overtaken(*arguments):
        mock.stop()
        assert calls[first == "writer"]()
        return commit(*arguments)

    mock = patch.object(CubeRepository, "commit", overtaken)
    mock.start()
    assert calls[first == "migration"]()
    assert not migrate_cube(old.location)
    assert Cube(old.location, old.spec).filled([*KEYS, *keys]) == {KEYS[0], keys[0]}
    assert opened(old).odc.geobox == old.spec.grid.geobox


def test_what_is_not_a_cube_is_left_alone(tmp_path: Path) -> None:
    assert migrate_cube(StoreLocation(str(tmp_path / "arcticdem_10m.icechunk"))) is False
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CubeError, match=r"thesis\.icechunk is not a cube .* expected one of arcticdem_2m, "):
        migrate_cube(StoreLocation(str(tmp_path / "thesis.icechunk")))
    make_old(StoreLocation(str(tmp_path / "tcvis_2024.icechunk")), tcvis_spec(2022))
    with pytest.raises(CubeError, match=r"tcvis_2024: .* has another layout"):
        migrate_cube(StoreLocation(str(tmp_path / "tcvis_2024.icechunk")))


MIGRATE_AND_KILL = """
import os, signal, sys, time
from darts_assets.cubes import migrate_cube
from darts_assets.stores.location import StoreLocation
first, *others = sys.stdin.read().splitlines()
seconds, share = 0, 0
for path in (first, *others):
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        migrate_cube(StoreLocation(path))
        os._exit(0)
    if path != first:
        share += 1 / len(others)
        time.sleep(share * seconds)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    seconds = seconds or time.monotonic() - started
"""


@pytest.mark.slow
def test_killed_migrations_leave_the_cube_old_or_new(tmp_path: Path, read_surface: Read) -> None:
    spec = arcticdem_spec(10)
    cubes = [make_old(StoreLocation(str(tmp_path / str(i) / "arcticdem_10m.icechunk")), spec) for i in range(10)]
    for cube in cubes:
        cube.write(chunk(cube, KEYS[0], read_surface), "before")
    before = documents(cubes[0])
    paths = "\n".join(str(cube.location.path) for cube in cubes)
    subprocess.run([sys.executable, "-c", MIGRATE_AND_KILL], input=paths, text=True, check=True)
    states = [documents(cube) == before for cube in cubes]
    assert states[:2] == [False, True]  # completed, and killed at once
    for cube, is_old in zip(cubes, states, strict=True):
        assert Cube(cube.location, spec).filled(KEYS) == {KEYS[0]}
        assert migrate_cube(cube.location) == is_old
        assert opened(cube).odc.geobox == spec.grid.geobox
        cube.write(chunk(cube, KEYS[1], read_surface), "after")
        assert Cube(cube.location, spec).filled(KEYS) == set(KEYS)

"""Filling: exactly what is missing, by any number of processes, some of which die."""

import logging
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from darts_assets.cubes import ArcticDemTiles, ChunkData, ChunkStatus, Cube, ensure
from darts_assets.errors import ChunksFailedError, MissingChunksError, RasterError, SourceUnavailableError

Read = Callable[[GeoBox], ChunkData]

WORKER = """
import sys
import numpy as np
from darts_assets.cubes import ChunkData, Cube, arcticdem_spec, ensure
from darts_assets.stores.location import StoreLocation

folder, *keys = sys.argv[1:]
cube = Cube(StoreLocation(folder), arcticdem_spec(10))

def read(geobox):
    height, width = geobox.shape
    rows = (np.arange(height) + geobox.affine.f / 10) % 977
    cols = (np.arange(width) + geobox.affine.c / 10) % 1009
    dem = (rows[:, None] + cols[None, :]).astype("float32")
    return ChunkData({"dem": dem, "arcticdem_data_mask": (dem % 2).astype("uint8")}, ("made",), 1.0)

print("ready", flush=True)
for filled in ensure(cube, keys, read, message=f"process", workers=2):
    print(filled.key, flush=True)
"""


def made(geobox: GeoBox) -> np.ndarray:
    rows = (np.arange(1024) + geobox.affine.f / 10) % 977
    cols = (np.arange(1024) + geobox.affine.c / 10) % 1009
    return (rows[:, None] + cols[None, :]).astype("float32")


def keys_of(cube: Cube, rows: int, cols: int) -> list[str]:
    return [cube.spec.grid.key(100 + row, 200 + col) for row in range(rows) for col in range(cols)]


def start(cube: Cube, keys: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(cube.location), *keys],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_exactly_the_missing_chunks_are_filled(
    cube: Cube, read_surface: Read, caplog: pytest.LogCaptureFixture
) -> None:
    keys = keys_of(cube, 2, 3)
    asked: list[GeoBox] = []

    def read(geobox: GeoBox) -> ChunkData:
        asked.append(geobox)
        return read_surface(geobox)

    assert [f.key for f in ensure(cube, keys[:2], read, message="run 1")] == keys[:2]
    asked.clear()
    with caplog.at_level(logging.INFO, "darts_assets.cubes"):
        filled = ensure(cube, keys + keys[:1], read, message="run 2")
    assert [f.key for f in filled] == keys[2:]
    assert sorted(str(g.affine) for g in asked) == sorted(
        str(cube.spec.grid.chunk_geobox(*cube.spec.grid.parse(key)).affine) for key in keys[2:]
    )
    assert {f.sources for f in filled} == {("surface",)}
    assert all(f.fill_fraction == 1 and f.bytes == cube.stored_bytes([f.key])[f.key] > 1000 for f in filled)
    assert all(f.seconds > 0 for f in filled)
    assert [record.getMessage() for record in caplog.records] == [
        f"arcticdem_10m: {n} of 4 chunks done, {n} filled, 0 failed" for n in (1, 2, 3, 4)
    ]
    assert cube.missing(keys) == []
    assert ensure(cube, keys, read, message="run 3") == []
    assert len(asked) == 4


def test_offline_lists_what_is_missing_and_reads_nothing(cube: Cube, read_surface: Read) -> None:
    keys = keys_of(cube, 2, 2)

    def forbidden(geobox: GeoBox) -> ChunkData:
        raise AssertionError(f"offline, but {geobox} was asked for")

    with pytest.raises(MissingChunksError, match="4 chunk"):
        ensure(cube, keys, forbidden, message="run", offline=True)
    assert not cube.location.path.exists()
    ensure(cube, keys[:3], read_surface, message="run")
    with pytest.raises(MissingChunksError) as caught:
        ensure(cube, keys, forbidden, message="run", offline=True)
    assert caught.value.chunks == keys[3:]
    assert ensure(cube, keys[:3], forbidden, message="run", offline=True) == []


def test_a_chunk_that_cannot_be_read_does_not_take_its_neighbours_with_it(cube: Cube, read_surface: Read) -> None:
    keys = keys_of(cube, 4, 5)
    bad = {str(cube.spec.grid.chunk_geobox(*cube.spec.grid.parse(key)).affine): key for key in (keys[3], keys[11])}

    def failing(geobox: GeoBox) -> ChunkData:
        if str(geobox.affine) in bad:
            raise RasterError(f"tile {bad[str(geobox.affine)][-1]} is damaged")
        return read_surface(geobox)

    with pytest.raises(
        ChunksFailedError, match=r"arcticdem_10m: 2 chunk.* 10m-r0100-c0203: tile 3 is damaged; "
    ) as error:
        ensure(cube, keys, failing, message="run", workers=2)
    assert cube.missing(keys) == list(error.value.failed) == [keys[3], keys[11]]
    assert [f.key for f in error.value.filled] == [key for key in keys if key not in (keys[3], keys[11])]
    assert not error.value.retryable
    assert [f.key for f in ensure(cube, keys, read_surface, message="run")] == [keys[3], keys[11]]


def test_a_service_that_does_not_answer_is_not_asked_for_every_chunk(cube: Cube, read_surface: Read) -> None:
    keys = keys_of(cube, 8, 8)
    asked: list[GeoBox] = []

    def dying(geobox: GeoBox) -> ChunkData:
        asked.append(geobox)
        if len(asked) > 20:
            raise SourceUnavailableError("the service said 503 five times")
        return read_surface(geobox)

    with pytest.raises(ChunksFailedError, match="the service said 503") as error:
        ensure(cube, keys, dying, message="run", workers=2)
    assert error.value.retryable
    assert len(asked) <= 22  # both workers may be at it
    assert len(cube.filled(keys)) == len(error.value.filled) == 20
    assert set(error.value.failed) == set(cube.missing(keys))


@pytest.mark.slow
def test_neighbours_are_committed_together(cube: Cube, read_surface: Read) -> None:
    keys = keys_of(cube, 4, 8)
    filled = ensure(cube, keys, read_surface, message="run", workers=2)
    blocks: dict[str, set[str]] = {}
    for chunk in filled:
        blocks.setdefault(chunk.snapshot, set()).add(chunk.key)
    assert sorted(map(sorted, blocks.values())) == [keys_of(cube, 4, 4), sorted(set(keys) - set(keys_of(cube, 4, 4)))]
    more = [cube.spec.grid.key(0, col) for col in range(6)]
    assert len({f.snapshot for f in ensure(cube, more, read_surface, message="run", block=1)}) == 6


def test_workers_read_at_the_same_time(cube: Cube, read_surface: Read) -> None:
    together = threading.Barrier(3, timeout=5)

    def meet(geobox: GeoBox) -> ChunkData:
        together.wait()
        return read_surface(geobox)

    assert len(ensure(cube, keys_of(cube, 1, 3), meet, message="run", workers=3)) == 3


def test_a_cube_filled_from_tiles_equals_the_surface(cube: Cube, mosaic, make_tile_box, make_surface) -> None:
    box = cube.spec.grid.chunk_geobox(100, 200)
    left, top = box.affine.c, box.affine.f
    for i in range(2):
        for j in range(3):
            mosaic.add(f"{i}_{j}", make_tile_box(left + 5000 + j * 8000 - 500, top - 5000 - i * 8000 + 500, 900, 900))
    keys = keys_of(cube, 3, 4)
    filled = ensure(cube, keys, ArcticDemTiles(str(mosaic.folder)).read_chunk, message="run")
    assert cube.status(keys)["10m-r0100-c0203"] == ChunkStatus.EMPTY
    assert {f.key: f.sources for f in filled}["10m-r0101-c0201"] == ("0_0", "0_1", "1_0", "1_1")
    covered = make_tile_box(left + 4500, top - 4500, 2500, 1700)
    window = cube.window(covered)
    np.testing.assert_allclose(window.dem, make_surface(covered), atol=0.00502)
    assert window.arcticdem_data_mask.values.all()
    around = cube.window(covered, 100)
    assert np.isnan(around.dem.values[:100]).all()


@pytest.mark.slow
def test_processes_fill_the_same_cube_and_one_of_them_is_killed(cube: Cube) -> None:
    keys = keys_of(cube, 5, 8)
    processes = [start(cube, keys) for _ in range(4)]
    victim = processes[1]
    assert victim.stdout
    assert victim.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 20
    while len(cube.filled(keys)) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    processes[1] = start(cube, keys)
    reported: list[str] = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        reported += out.split()
    reported = [line for line in reported if line != "ready"]
    assert len(set(reported)) == len(reported)  # a chunk is filled by one process
    assert cube.missing(keys) == []
    window = cube.window(cube.spec.grid.geobox[100 * 1024 : 105 * 1024, 200 * 1024 : 208 * 1024])
    for key in keys:
        row, col = cube.spec.grid.parse(key)
        part = window.isel(
            y=slice((row - 100) * 1024, (row - 99) * 1024), x=slice((col - 200) * 1024, (col - 199) * 1024)
        )
        expected = made(cube.spec.grid.chunk_geobox(row, col))
        np.testing.assert_allclose(part.dem, expected, atol=1e-3)
        np.testing.assert_array_equal(part.arcticdem_data_mask, expected % 2)


@pytest.mark.slow
def test_a_killed_writer_leaves_the_cube_readable(cube: Cube, tmp_path: Path) -> None:
    keys = keys_of(cube, 6, 8)
    moments = random.Random(11)
    for _ in range(3):
        process = start(cube, keys)
        assert process.stdout
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.4))
        process.kill()
        process.communicate()
        fresh = Cube(cube.location, cube.spec)
        for key in fresh.filled(keys):
            box = cube.spec.grid.chunk_geobox(*cube.spec.grid.parse(key))
            np.testing.assert_allclose(fresh.window(box).dem, made(box), atol=1e-3)
    process = start(cube, keys)
    assert process.wait(timeout=60) == 0
    assert Cube(cube.location, cube.spec).missing(keys) == []

"""What is written comes back; what is missing or empty is known; windows are lazy."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr
from affine import Affine
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from darts_assets.cubes import CHUNK, ChunkData, ChunkStatus, Cube, arcticdem_spec, tcvis_spec
from darts_assets.errors import CubeError, MissingChunksError, StoreError
from darts_assets.features.reproject import reproject
from darts_assets.stores.location import StoreLocation
from darts_assets.tiles import geobox_of

KEY = "10m-r0200-c0300"
Read = Callable[[GeoBox], ChunkData]


def write(cube: Cube, key: str, read: Read) -> dict[str, np.ndarray]:
    values = dict(read(cube.spec.grid.chunk_geobox(*cube.spec.grid.parse(key))).values)
    assert cube.write({key: ChunkData(values, ("here",))}, "made by a test") == {key: cube.snapshot()}
    return values


def test_a_cube_that_does_not_exist_misses_everything(cube: Cube) -> None:
    assert cube.missing([KEY]) == [KEY]
    assert cube.filled([KEY]) == set()
    assert cube.stored_bytes([KEY]) == {KEY: 0}
    with pytest.raises(MissingChunksError, match=KEY):
        cube.window(cube.spec.grid.chunk_geobox(200, 300))
    with pytest.raises(CubeError, match="does not exist; fill a chunk first"):
        cube.snapshot()
    assert not cube.location.path.exists()  # asking creates nothing


def test_elevations_keep_a_centimetre_and_are_clipped_on_load(cube: Cube, read_surface: Read) -> None:
    box = cube.spec.grid.chunk_geobox(200, 300)
    values = dict(read_surface(box).values)
    rng = np.random.default_rng(3)
    values["dem"] = values["dem"] + rng.random(values["dem"].shape, dtype="float32")
    values["dem"][0, :6] = [np.nan, -100.5, 3000.4, -100, 3000, 8848.86]
    values["arcticdem_data_mask"][0, 0] = 0
    cube.write({KEY: ChunkData(values)}, "test")
    window = cube.window(box)
    assert window.dem.dtype == np.float32
    assert window.arcticdem_data_mask.dtype == np.uint8
    np.testing.assert_array_equal(window.dem[0, :6], np.float32([np.nan, -100, 3000, -100, 3000, 3000]))
    np.testing.assert_allclose(window.dem[1:], values["dem"][1:], atol=0.00501)
    np.testing.assert_array_equal(window.arcticdem_data_mask, values["arcticdem_data_mask"])
    assert geobox_of(window) == box
    assert window.dem.attrs["units"] == "m"
    assert window.attrs == {"cube": "arcticdem_10m", "snapshot": cube.snapshot()}
    # The clip is not in the store: what a tile said is kept.
    session = icechunk.Repository.open(icechunk.local_filesystem_storage(str(cube.location.path))).readonly_session(
        "main"
    )
    assert zarr.open_group(session.store, mode="r")["dem"][200 * CHUNK, 300 * CHUNK + 5] == 884886


def test_tcvis_is_exact(tmp_path: Path) -> None:
    cube = Cube(StoreLocation(str(tmp_path / "tcvis")), tcvis_spec(2024))
    rng = np.random.default_rng(5)
    values = {v.name: rng.integers(0, 256, (CHUNK, CHUNK), dtype="uint8") for v in cube.spec.variables}
    cube.write({"2024-r0080-c0123": ChunkData(values)}, "test")
    window = cube.window(cube.spec.grid.chunk_geobox(80, 123))
    assert list(window.data_vars) == ["tc_brightness", "tc_greenness", "tc_wetness"]
    for name, array in values.items():
        np.testing.assert_array_equal(window[name], array)
        assert window[name].dtype == np.uint8


def test_holes_are_recorded(cube: Cube, read_surface: Read) -> None:
    nothing = {
        "dem": np.full((CHUNK, CHUNK), np.nan, dtype="float32"),
        "arcticdem_data_mask": np.zeros((CHUNK, CHUNK), dtype="uint8"),
    }
    write(cube, KEY, read_surface)
    cube.write({"10m-r0200-c0301": ChunkData(nothing)}, "test")
    keys = [KEY, "10m-r0200-c0301", "10m-r0200-c0302"]
    assert list(cube.status(keys).values()) == [ChunkStatus.DATA, ChunkStatus.EMPTY, ChunkStatus.MISSING]
    assert cube.filled(keys) == set(keys[:2])
    assert cube.missing(keys) == keys[2:]
    sizes = cube.stored_bytes(keys)
    assert sizes[keys[0]] > 1000
    assert sizes[keys[1]] == sizes[keys[2]] == 0
    window = cube.window(cube.spec.grid.chunk_geobox(200, 301))
    assert np.isnan(window.dem).all()
    assert not window.arcticdem_data_mask.any()
    with pytest.raises(CubeError, match="expected 10m-rNNNN"):
        cube.status(["32m-r0001-c0001"])


def test_coverage_tells_chunks_with_data_from_empty_ones(cube: Cube, read_surface: Read) -> None:
    assert cube.coverage().data.shape == cube.coverage().empty.shape == (0, 2)
    nothing = {"dem": np.full((CHUNK, CHUNK), np.nan, "float32"), "arcticdem_data_mask": np.zeros((CHUNK, CHUNK), "u1")}
    for key in ("10m-r0200-c0300", "10m-r0700-c0010", "10m-r0199-c0301"):
        write(cube, key, read_surface)
    cube.write({"10m-r0200-c0301": ChunkData(nothing)}, "test")
    coverage = Cube(cube.location, cube.spec).coverage()
    assert coverage.data.tolist() == [[199, 301], [200, 300], [700, 10]]
    assert coverage.empty.tolist() == [[200, 301]]
    many = [cube.spec.grid.key(row, col) for row in range(190, 230) for col in range(290, 330)]
    one_by_one = {
        key: cube.status([key])[key]
        for key in many[::7] + many[410:412] + [f"10m-r0200-c{c:04d}" for c in range(299, 303)]
    }
    listed = cube.status(many)
    assert list(listed) == many
    assert {key: listed[key] for key in one_by_one} == one_by_one
    assert sorted(key for key in many if listed[key]) == ["10m-r0199-c0301", "10m-r0200-c0300", "10m-r0200-c0301"]


def test_a_window_spans_chunks_with_its_buffer(cube: Cube, read_surface: Read, make_surface) -> None:
    chunks = [cube.spec.grid.key(row, col) for row in (200, 201) for col in (300, 301)]
    for key in chunks:
        write(cube, key, read_surface)
    crossing = cube.spec.grid.geobox[201 * CHUNK - 50 : 201 * CHUNK + 70, 301 * CHUNK - 20 : 301 * CHUNK + 30]
    window = cube.window(crossing, 10)
    box = geobox_of(window)
    assert box.shape == (140, 70)
    assert box == cube.spec.grid.geobox[201 * CHUNK - 60 : 201 * CHUNK + 80, 301 * CHUNK - 30 : 301 * CHUNK + 40]
    np.testing.assert_allclose(window.dem, make_surface(box), atol=0.00502)
    np.testing.assert_array_equal(window.dem[-1, ::-3].values, window.dem.values[-1, ::-3])
    np.testing.assert_array_equal(window.dem[5:60:7, 3], window.dem.values[5:60:7, 3])


def test_a_missing_chunk_is_an_error_not_a_hole(cube: Cube, read_surface: Read) -> None:
    write(cube, KEY, read_surface)
    both = cube.spec.grid.geobox[200 * CHUNK + 10 : 200 * CHUNK + 20, 301 * CHUNK - 5 : 301 * CHUNK + 5]
    with pytest.raises(MissingChunksError, match=r"arcticdem_10m: 1 chunk\(s\) are missing: 10m-r0200-c0301") as caught:
        cube.window(both)
    assert caught.value.chunks == ["10m-r0200-c0301"]
    inside = cube.spec.grid.geobox[200 * CHUNK + 10 : 200 * CHUNK + 20, 301 * CHUNK - 15 : 301 * CHUNK - 5]
    assert cube.window(inside).sizes == {"y": 10, "x": 10}
    with pytest.raises(MissingChunksError):
        cube.window(inside, 6)


@pytest.mark.slow
def test_chunks_in_the_corners_of_an_askew_window_need_not_be_filled(cube: Cube, read_surface: Read) -> None:
    scene = GeoBox((3000, 3000), Affine(10, 0, 350_000, 0, -10, 7_800_000), "EPSG:32601")
    keys = cube.spec.grid.chunks_for(scene, 15)
    rows, cols = cube.spec.grid.window(scene, 15)
    for key in keys:
        write(cube, key, read_surface)
    window = cube.window(scene, 15)
    assert np.isnan(window.dem.values).any()
    assert window.dem.shape == (rows.stop - rows.start, cols.stop - cols.start)
    on_scene = reproject(window, ("dem",), scene)["dem"]
    assert np.isfinite(on_scene).all()


def test_slicing_a_window_reads_only_the_chunks_under_the_slice(cube: Cube, read_surface: Read) -> None:
    for col in range(300, 304):
        write(cube, f"10m-r0200-c{col:04d}", read_surface)
    chunks = cube.location.path / "chunks"
    by_time = sorted(chunks.iterdir(), key=lambda path: path.stat().st_mtime_ns)[2:]  # after the pixel numbers
    assert len(by_time) == 4  # the masks, all ones, are small enough to be in the manifest
    for path in by_time[1:]:  # all but those of the first chunk
        path.unlink()
    window = Cube(cube.location, cube.spec).window(
        cube.spec.grid.geobox[200 * CHUNK : 201 * CHUNK, 300 * CHUNK : 304 * CHUNK]
    )
    assert window.dem.isel(x=slice(0, CHUNK)).values.shape == (CHUNK, CHUNK)
    assert np.isfinite(window.isel(y=slice(0, 512), x=slice(100, 200)).load().dem.values).all()
    # A chunk that was filled and is gone is damage, not a hole.
    with pytest.raises(StoreError, match=r"arcticdem_10m\.icechunk: "):
        window.dem.isel(x=slice(CHUNK - 1, CHUNK + 1)).load()


@pytest.fixture(scope="module")
def rugged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cube, np.ndarray]:
    """Two by three chunks with holes, peaks beyond the limits and one empty chunk, and what they hold in the whole."""
    cube = Cube(StoreLocation(str(tmp_path_factory.mktemp("rugged") / "dem")), arcticdem_spec(10))
    rng = np.random.default_rng(5)
    dem = rng.uniform(-150, 3100, (2 * CHUNK, 3 * CHUNK)).astype("float32")
    dem[rng.random(dem.shape) < 0.01] = np.nan
    dem[:70] = rng.uniform(0, 100, (70, 3 * CHUNK))  # rows without holes and within the limits
    dem[CHUNK:, CHUNK : 2 * CHUNK] = np.nan
    mask = np.isfinite(dem).astype("uint8")
    parts = {
        cube.spec.grid.key(200 + row, 300 + col): ChunkData(
            {
                "dem": dem[row * CHUNK : (row + 1) * CHUNK, col * CHUNK : (col + 1) * CHUNK],
                "arcticdem_data_mask": mask[row * CHUNK : (row + 1) * CHUNK, col * CHUNK : (col + 1) * CHUNK],
            }
        )
        for row in range(2)
        for col in range(3)
    }
    cube.write(parts, "test")
    return cube, np.clip(dem, -100, 3000)


def indexers(size: int) -> st.SearchStrategy[int | slice]:
    position = st.one_of(st.none(), st.integers(-size, size + 3))
    step = st.one_of(st.none(), st.sampled_from([1, 2, 7, 1000, -1, -3, -1500]))
    slices = st.builds(slice, position, position, step)
    # xarray itself fails on empty slices with a negative step.
    return st.one_of(st.integers(-size, size - 1), slices.filter(lambda picked: len(range(size)[picked]) > 0))


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_slice_of_a_window_equals_the_same_slice_of_the_whole(rugged, data: st.DataObject) -> None:
    cube, whole = rugged
    top, left = 37, CHUNK - 5
    height, width = CHUNK + 300, CHUNK + 90
    grid = cube.spec.grid.geobox[200 * CHUNK + top :, 300 * CHUNK + left :][:height, :width]
    window = cube.window(grid)
    rows, cols = data.draw(indexers(height)), data.draw(indexers(width))
    expected = whole[top : top + height, left : left + width][rows, cols]
    np.testing.assert_allclose(window.dem[rows, cols].values, expected, atol=0.00502)
    np.testing.assert_array_equal(window.arcticdem_data_mask[rows, cols].values, np.isfinite(expected))


def test_a_window_equals_what_zarr_reads(rugged) -> None:
    cube, _ = rugged
    session = icechunk.Repository.open(icechunk.local_filesystem_storage(str(cube.location.path)))
    group = zarr.open_group(session.readonly_session("main").store, mode="r")
    rows, cols = slice(200 * CHUNK, 202 * CHUNK), slice(300 * CHUNK, 303 * CHUNK)
    stored = np.asarray(group["dem"][rows, cols])  # type: ignore[index]
    window = cube.window(cube.spec.grid.geobox[rows, cols])
    np.testing.assert_array_equal(window.dem, np.clip(cube.spec.variables[0].decode(stored), -100, 3000))


def test_a_filled_chunk_stays_as_it_is(cube: Cube, read_surface: Read) -> None:
    first = write(cube, KEY, read_surface)
    snapshot = cube.snapshot()
    other = {**first, "dem": first["dem"] + 1}
    assert cube.write({KEY: ChunkData(other)}, "too late") == {}
    assert cube.snapshot() == snapshot
    np.testing.assert_allclose(cube.window(cube.spec.grid.chunk_geobox(200, 300)).dem, first["dem"], atol=0.00502)


def test_two_writers_of_one_chunk_both_succeed_and_one_wins(
    cube: Cube, read_surface: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_surface(cube.spec.grid.chunk_geobox(200, 300)).values
    second = {**first, "dem": first["dem"] + 1}
    cube.create()
    commit = cube._repository.commit

    def overtaken(*arguments):
        monkeypatch.undo()
        assert Cube(cube.location, cube.spec).write({KEY: ChunkData(second)}, "faster")
        assert Cube(cube.location, cube.spec).write({"10m-r0000-c0000": ChunkData(second)}, "elsewhere")
        return commit(*arguments)

    monkeypatch.setattr(cube._repository, "commit", overtaken)
    neighbour = "10m-r0200-c0301"
    written = cube.write({KEY: ChunkData(first), neighbour: ChunkData(first)}, "slower")
    assert written == {neighbour: cube.snapshot()}  # what the other has not filled is not lost
    assert cube.filled([KEY, neighbour]) == {KEY, neighbour}
    np.testing.assert_allclose(cube.window(cube.spec.grid.chunk_geobox(200, 300)).dem, second["dem"], atol=0.00502)


def test_a_commit_whose_answer_got_lost_is_not_taken_for_another_s(
    cube: Cube, read_surface: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an S3 client does when a PUT times out after it was carried out: it sends it again, and is refused."""
    cube.create()
    commit = icechunk.Session.commit

    def answer_lost(session, *arguments):
        monkeypatch.undo()
        commit(session, *arguments)
        raise icechunk.RebaseFailedError(session.snapshot_id, [])

    values = read_surface(cube.spec.grid.chunk_geobox(200, 300)).values
    monkeypatch.setattr(icechunk.Session, "commit", answer_lost)
    assert cube.write({KEY: ChunkData(values)}, "test") == {KEY: cube.snapshot()}


def test_history_tells_who_filled_what_from_what(cube: Cube, read_surface: Read) -> None:
    values = write(cube, KEY, read_surface)
    keys = [cube.spec.grid.key(100, col) for col in range(3)]
    cube.write({key: ChunkData(values, (key[-1], "b")) for key in keys}, "created by run 7")
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(cube.location.path)))
    newest, before, created, _ = repository.ancestry(branch="main")
    assert newest.id == cube.snapshot()
    assert newest.message == f"created by run 7: {', '.join(keys)}"
    assert newest.metadata["chunks"] == {keys[0]: ["0", "b"], keys[1]: ["1", "b"], keys[2]: ["2", "b"]}
    assert before.message == f"made by a test: {KEY}"
    assert before.metadata["chunks"] == {KEY: ["here"]}
    assert created.message == "created arcticdem_10m"


@pytest.mark.parametrize("change", ["missing", "shape", "dtype"])
def test_values_that_do_not_fit_are_refused(cube: Cube, read_surface: Read, change: str) -> None:
    good = read_surface(cube.spec.grid.chunk_geobox(200, 300)).values
    values = dict(good)
    if change == "missing":
        del values["dem"]
    elif change == "shape":
        values["dem"] = values["dem"][1:]
    else:
        values["arcticdem_data_mask"] = values["arcticdem_data_mask"].astype("float32")
    with pytest.raises(CubeError, match=KEY):
        cube.write({"10m-r0000-c0000": ChunkData(good), KEY: ChunkData(values)}, "test")
    assert cube.missing([KEY, "10m-r0000-c0000"]) == [KEY, "10m-r0000-c0000"]


def test_a_cube_of_another_layout_is_refused(cube: Cube, read_surface: Read) -> None:
    write(cube, KEY, read_surface)
    other = Cube(cube.location, arcticdem_spec(32))
    for use in (other.create, other.snapshot, lambda: other.missing(["32m-r0000-c0000"])):
        with pytest.raises(CubeError, match=r"arcticdem_32m: the cube at .* has another layout"):
            use()


def test_creation_that_died_is_healed(cube: Cube, read_surface: Read) -> None:
    cube.create()
    cube.create()
    shutil.rmtree(cube.location.path / "refs")  # died before the branch was there
    fresh = Cube(cube.location, cube.spec)
    assert fresh.missing([KEY]) == [KEY]
    write(fresh, KEY, read_surface)
    assert fresh.filled([KEY]) == {KEY}
    shutil.rmtree(cube.location.path)  # died before the arrays were there
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(cube.location.path)))
    fresh = Cube(cube.location, cube.spec)
    assert fresh.missing([KEY]) == [KEY]
    write(fresh, KEY, read_surface)
    assert fresh.filled([KEY]) == {KEY}


def test_a_folder_of_something_else_is_left_alone(cube: Cube) -> None:
    cube.location.path.mkdir(parents=True)
    (cube.location.path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(StoreError, match=r"it contains thesis\.txt"):
        cube.create()
    assert (cube.location.path / "thesis.txt").exists()


def test_a_lock_that_is_never_released_is_a_clear_error(cube: Cube, read_surface: Read) -> None:
    cube.create()
    impatient = Cube(cube.location, cube.spec, lock_timeout=0.2)
    lock = cube.location.path.with_name(f"{cube.location.path.name}.lock")
    with FileLock(lock), pytest.raises(StoreError, match=r"another process has held .*\.icechunk\.lock for 0\.2 s"):
        write(impatient, KEY, read_surface)
    assert impatient.missing([KEY]) == [KEY]
    write(impatient, KEY, read_surface)


def test_a_damaged_repository_is_a_clear_error(cube: Cube, read_surface: Read) -> None:
    write(cube, KEY, read_surface)
    for path in (cube.location.path / "snapshots").iterdir():
        os.truncate(path, 10)
    with pytest.raises(StoreError, match=r"arcticdem_10m\.icechunk: "):
        Cube(cube.location, cube.spec).missing([KEY])


def test_across_the_antimeridian_a_window_reprojects_without_a_seam(tmp_path: Path) -> None:
    cube = Cube(StoreLocation(str(tmp_path / "tcvis")), tcvis_spec(2024))
    scene = GeoBox((600, 800), Affine(10, 0, 379_000, 0, -10, 7_700_000), "EPSG:32601")
    grid = cube.spec.grid

    def pattern(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        return np.rint(128 + 60 * np.sin((lon % 360) * 30) + 60 * np.cos(lat * 40)).astype("uint8")

    for key in grid.chunks_for(scene):
        box = grid.chunk_geobox(*grid.parse(key))
        rows, cols = np.meshgrid(np.arange(CHUNK) + 0.5, np.arange(CHUNK) + 0.5, indexing="ij")
        values = pattern(*box.pix2wld(cols, rows))
        bands = dict.fromkeys(("tc_brightness", "tc_greenness", "tc_wetness"), values)
        cube.write({key: ChunkData(bands)}, "test")
    window = cube.window(scene)
    assert window.x.min() < 180 < window.x.max()
    assert np.allclose(np.diff(window.x), grid.geobox.resolution.x)
    found = reproject(window, ("tc_brightness",), scene)["tc_brightness"]
    rows, cols = np.meshgrid(np.arange(600) + 0.5, np.arange(800) + 0.5, indexing="ij")
    lon, lat = Transformer.from_crs(32601, 4326, always_xy=True).transform(*scene.pix2wld(cols, rows))
    assert lon.min() < -179
    assert lon.max() > 179
    assert np.abs(found.astype(int) - pattern(lon, lat).astype(int)).max() <= 2

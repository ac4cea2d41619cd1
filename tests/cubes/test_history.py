"""History: what commits say, what expires, and what readers and writers notice of it."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr
from filelock import FileLock
from odc.geo.geobox import GeoBox

from darts_assets.cubes import CHUNK, ChunkData, ChunkStatus, Cube, arcticdem_spec, ensure
from darts_assets.cubes.history import MINIMUM_AGE, ExpiredHistory
from darts_assets.errors import CubeError, StoreError
from darts_assets.stores.location import StoreLocation
from tests.e2e.storm import sizes as sizes_below
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

pytestmark = pytest.mark.slow

Read = Callable[[GeoBox], ChunkData]
SPEC = arcticdem_spec(10)
KEYS = [SPEC.grid.key(200, 300 + col) for col in range(6)]
NOW = timedelta(0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(params=["disk", "s3"])
def cube(request: pytest.FixtureRequest, tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Cube:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    local = StoreLocation(str(tmp_path / "aux" / "cube.icechunk"))
    return Cube(local if request.param == "disk" else server.location("aux", "cube.icechunk"), SPEC)


def chunk(key: str, offset: float = 0) -> ChunkData:
    """Noise, the same for each key; its every variable is an object of its own."""
    rng = np.random.default_rng(sum(map(ord, key)))
    dem = rng.random((CHUNK, CHUNK), dtype="float32") + np.float32(offset)
    return ChunkData({"dem": dem, "arcticdem_data_mask": rng.integers(0, 2, dem.shape, dtype="uint8")}, (f"t-{key}",))


def write(cube: Cube, *keys: str, offset: float = 0) -> None:
    for key in keys:
        assert list(fresh(cube).write({key: chunk(key, offset)}, f"created by run of {key}")) == [key]


def fresh(cube: Cube) -> Cube:
    """The cube as another process sees it."""
    return Cube(cube.location, cube.spec)


def sizes(cube: Cube) -> dict[str, int]:
    return sizes_below(cube.location)


def history(cube: Cube) -> list[icechunk.SnapshotInfo]:
    repository = fresh(cube)._repository.open()
    assert repository is not None
    return list(repository.ancestry(branch="main"))


def box_of(key: str) -> GeoBox:
    return SPEC.grid.chunk_geobox(*SPEC.grid.parse(key))


def assert_holds(cube: Cube, *keys: str, offset: float = 0) -> None:
    assert set(fresh(cube).status(keys).values()) == {ChunkStatus.DATA}
    for key in keys:
        window = fresh(cube).window(box_of(key))
        np.testing.assert_allclose(window.dem, chunk(key, offset).values["dem"], atol=0.00502)
        np.testing.assert_array_equal(window.arcticdem_data_mask, chunk(key).values["arcticdem_data_mask"])


def abandoned_session(cube: Cube, key: str) -> icechunk.Session:
    """A writer that has put its chunk, and has not committed."""
    repository = fresh(cube)._repository.open()
    assert repository is not None
    session = repository.writable_session("main")
    group = zarr.open_group(session.store, mode="r+")
    row, col = SPEC.grid.parse(key)
    for variable in SPEC.variables:
        values = chunk(key).values[variable.name]
        group[variable.name][SPEC.grid.chunk_slices(row, col)] = variable.encode(values)
    group["status"][row, col] = 1
    return session


def test_commits_say_who_filled_what_from_what(cube: Cube) -> None:
    asked: dict[tuple[float, ...], str] = {tuple(box_of(key).affine): key for key in KEYS[:4]}
    ensure(cube, KEYS[:4], lambda box: chunk(asked[tuple(box.affine)]), message="created by run abc-123", block=2)
    commits = [snapshot for snapshot in history(cube) if "chunks" in snapshot.metadata]
    assert sorted(key for commit in commits for key in commit.metadata["chunks"]) == KEYS[:4]
    for commit in commits:
        assert commit.message == f"created by run abc-123: {', '.join(commit.metadata['chunks'])}"
        assert commit.metadata["chunks"] == {key: [f"t-{key}"] for key in commit.metadata["chunks"]}


def test_old_snapshots_expire_and_what_nothing_refers_to_is_removed(cube: Cube) -> None:
    write(cube, *KEYS[:3])
    abandoned_session(cube, KEYS[3])
    before = sizes(cube)
    assert sum(key.startswith("chunks/") for key in before) == 10
    newest = cube.snapshot()

    found = cube.expire(NOW, alone=True)

    after = sizes(cube)
    gone = set(before) - set(after)
    assert set(after) < set(before)
    assert found == ExpiredHistory(snapshots=3, objects=len(gone), bytes=sum(before[key] for key in gone))
    assert [sum(key.startswith(kind) for key in after) for kind in ("chunks/", "snapshots/", "transactions/")] == [
        8,
        2,
        1,
    ]
    assert sum(key.startswith("manifests/") for key in after) == 5  # one for each array but `spatial_ref`
    assert [snapshot.message for snapshot in history(cube)] == [
        f"created by run of {KEYS[2]}: {KEYS[2]}",
        "Repository initialized",
    ]
    assert cube.snapshot() == newest
    assert_holds(cube, *KEYS[:3])
    assert fresh(cube).missing(KEYS) == KEYS[3:]
    assert fresh(cube).expire(NOW, alone=True) == ExpiredHistory(0, 0, 0)
    write(cube, KEYS[3])
    assert_holds(cube, *KEYS[:4])


def test_an_age_that_commits_under_way_do_not_survive_is_refused(cube: Cube) -> None:
    write(cube, KEYS[0])
    session = abandoned_session(cube, KEYS[1])
    before = sizes(cube)
    for age in (NOW, MINIMUM_AGE - timedelta(seconds=1), -MINIMUM_AGE):
        with pytest.raises(CubeError, match=r"cube\.icechunk: history younger than 1 day, 0:00:00 cannot expire"):
            cube.expire(age)
    with pytest.raises(CubeError, match="cannot expire"):
        cube.expire(-MINIMUM_AGE, alone=True)
    assert cube.expire(MINIMUM_AGE) == ExpiredHistory(0, 0, 0)
    assert sizes(cube) == before
    assert cube._repository.commit(session, "after all", {})
    assert_holds(cube, *KEYS[:2])


def test_where_there_is_no_cube_there_is_no_history(cube: Cube) -> None:
    assert cube.expire(MINIMUM_AGE) == ExpiredHistory(0, 0, 0)
    assert sizes(cube) == {}


def test_who_opened_the_cube_within_the_age_finds_everything(cube: Cube) -> None:
    write(cube, *KEYS[:2])
    time.sleep(3)  # S3 knows the time of an object to the second
    opened = time.time()
    window = fresh(cube).window(box_of(KEYS[0]))
    session = abandoned_session(cube, KEYS[3])
    write(cube, KEYS[2])
    found = cube.expire(timedelta(seconds=time.time() - opened + 1.5), alone=True)
    # KEYS[1] was written before that, but it was the newest then.
    messages = [snapshot.message.partition(":")[0] for snapshot in history(cube)]
    assert messages == [*(f"created by run of {key}" for key in (KEYS[2], KEYS[1])), "Repository initialized"]
    assert found.snapshots == 2
    assert found.objects > 4
    np.testing.assert_allclose(window.dem, chunk(KEYS[0]).values["dem"], atol=0.00502)
    assert cube._repository.commit(session, "created by a slow run", {})
    assert_holds(cube, *KEYS[:4])


def test_a_window_of_an_expired_snapshot_reads_no_other_values(cube: Cube) -> None:
    write(cube, KEYS[0])
    begun, opened = fresh(cube).window(box_of(KEYS[0])), fresh(cube).window(box_of(KEYS[0]))
    begun.isel(y=slice(0, 10)).load()
    write(cube, KEYS[1])
    cube.expire(NOW, alone=True)
    np.testing.assert_allclose(begun.dem, chunk(KEYS[0]).values["dem"], atol=0.00502)
    with pytest.raises(StoreError, match=r"cube\.icechunk: "):
        opened.load()
    assert_holds(cube, KEYS[0])


@pytest.mark.parametrize("of_others", [KEYS[1], KEYS[2]], ids=["same chunk", "another chunk"])
def test_a_writer_whose_snapshot_expires_makes_its_changes_again(
    cube: Cube, of_others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cube, KEYS[0])
    commit = cube._repository.commit

    def overtaken(*arguments):
        monkeypatch.undo()
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        write(cube, of_others, offset=1)
        write(cube, KEYS[5])
        assert fresh(cube).expire(NOW, alone=True).snapshots == 3
        return commit(*arguments)

    monkeypatch.setattr(cube._repository, "commit", overtaken)
    snapshots = cube.write({KEYS[1]: chunk(KEYS[1])}, "slow")
    assert_holds(cube, KEYS[0], KEYS[5])
    assert_holds(cube, of_others, offset=1)
    if of_others == KEYS[1]:
        assert snapshots == {}
    else:
        assert snapshots == {KEYS[1]: cube.snapshot()}
        assert_holds(cube, KEYS[1])


def aged(cube: Cube, keys: set[str], hours: float) -> list[Path]:
    """Files below a cube on a path, which are now older."""
    paths = [cube.location.path / key for key in keys]
    for path in paths:
        os.utime(path, (path.stat().st_mtime - hours * 3600,) * 2)
    return paths


def test_a_writer_may_sleep_for_as_long_as_it_likes(cube: Cube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darts_assets.cubes.history.MINIMUM_AGE", NOW)  # days go by
    write(cube, *KEYS[:2])
    session = abandoned_session(cube, KEYS[2])
    assert cube.expire(NOW).snapshots == 2
    assert cube._repository.commit(session, "created by a run on the newest snapshot", {})
    assert_holds(cube, *KEYS[:3])


def test_chunks_of_a_writer_are_removed_only_when_it_cannot_commit_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = Cube(StoreLocation(str(tmp_path / "cube.icechunk")), SPEC)
    monkeypatch.setattr("darts_assets.cubes.history.MINIMUM_AGE", NOW)
    write(cube, KEYS[0])
    before = set(sizes(cube))
    session = abandoned_session(cube, KEYS[1])
    chunks = aged(cube, set(sizes(cube)) - before, hours=2)
    assert len(chunks) == 2
    write(cube, KEYS[2])
    assert cube.expire(NOW).snapshots == 2
    assert not any(path.exists() for path in chunks)
    assert cube._repository.commit(session, "its chunks are gone", {}) is None
    assert fresh(cube).missing(KEYS[:3]) == [KEYS[1]]
    assert_holds(cube, KEYS[0], KEYS[2])


def test_what_killed_writers_left_is_removed_when_it_is_older_than_what_stays(tmp_path: Path) -> None:
    cube = Cube(StoreLocation(str(tmp_path / "cube.icechunk")), SPEC)
    write(cube, KEYS[0])
    kept = set(sizes(cube))
    abandoned_session(cube, KEYS[1])
    (cube.location.path / "chunks" / "0123456789ABCDEFGHJK#1").write_bytes(b"half a chunk")
    old = aged(cube, set(sizes(cube)) - kept, hours=50)
    assert len(old) == 3
    abandoned_session(cube, KEYS[2])
    (cube.location.path / "chunks" / "1123456789ABCDEFGHJK#2").write_bytes(b"half a chunk")
    before = sizes(cube)
    found = cube.expire(MINIMUM_AGE)
    gone = {cube.location.path / key: size for key, size in before.items() if key not in sizes(cube)}
    assert set(gone) == set(old)
    assert found == ExpiredHistory(snapshots=0, objects=3, bytes=sum(gone.values()))
    assert_holds(cube, KEYS[0])


def test_commits_on_a_path_and_expiry_keep_out_of_each_other_s_way(tmp_path: Path) -> None:
    cube = Cube(StoreLocation(str(tmp_path / "cube.icechunk")), SPEC, lock_timeout=0.2)
    write(cube, KEYS[0], KEYS[1])
    lock = cube.location.path.with_name(f"{cube.location.path.name}.lock")
    before = sizes(cube)
    with FileLock(lock), pytest.raises(StoreError, match=r"another process has held .*\.icechunk\.lock for 0\.2 s"):
        cube.expire(NOW, alone=True)
    assert sizes(cube) == before
    assert cube.expire(NOW, alone=True).snapshots == 2

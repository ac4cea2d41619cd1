"""Publishing is atomic: what a killed or failed writer leaves is never readable and goes with the next write."""

import json
import threading
from datetime import timedelta
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import xarray as xr
from filelock import FileLock
from odc.geo.geobox import GeoBox
from zarr.errors import GroupNotFoundError

from darts_assets.bands import band
from darts_assets.errors import NotReadableError, StoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place, Retention
from darts_assets.stores.tiles import read_geobox, read_tile, write_tile
from darts_assets.tiles import TileStream, geobox_of, on_grid, row_windows

GRID = GeoBox.from_bbox((500_000, 7_700_000, 507_000, 7_713_000), crs="EPSG:32608", resolution=10)


def tile(seed: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    red = rng.random(GRID.shape, dtype="float32") * 0.4
    red[:300] = np.nan
    return on_grid({"red": red, "tc_wetness": rng.integers(0, 255, GRID.shape).astype("uint8")}, GRID, {"a": 1})


def stream(dataset: xr.Dataset, rows: int = 333) -> TileStream:
    windows = (dataset.isel(y=window) for window in row_windows(GRID.shape[0], rows))
    return TileStream(GRID, tuple(dataset.data_vars), windows, dict(dataset.attrs))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(StoreLocation(str(tmp_path)).child("tiles", "scene 1"))


def versions(place: Place) -> list[str]:
    return sorted(path.name for path in place.location.path.iterdir() if path.is_dir())


def without_grace(place: Place) -> Place:
    return Place(place.location, Retention(timedelta(0)))


def test_round_trip_in_codec_precision_whatever_the_windows(place: Place) -> None:
    source = tile()
    written = write_tile(place, stream(source), metadata={"k": 2})
    back = read_tile(place)
    assert geobox_of(back) == read_geobox(place) == GRID
    assert back.attrs == {"a": 1}
    step = band("red").scale
    assert step is not None
    np.testing.assert_allclose(back["red"].values, source["red"].values, atol=step / 2 * 1.01)
    np.testing.assert_array_equal(back["tc_wetness"].values, source["tc_wetness"].values)
    assert back["red"].dtype == np.float32
    assert written.coverage["red"] == pytest.approx(1 - 300 / GRID.shape[0])
    assert written.size == sum(f.stat().st_size for f in place.location.path.glob("*/**/*") if f.is_file())


def test_coverage_of_digital_numbers_knows_their_fill_value(place: Place) -> None:
    numbers = np.zeros(GRID.shape, dtype="int16")
    numbers[:325] = -32768
    raw = on_grid({"red": numbers, "observations": numbers.clip(0).astype("uint16")}, GRID)
    raw["red"].attrs["_FillValue"] = -32768
    written = write_tile(place, stream(raw), metadata={}, encoded=True)
    assert written.coverage == {"red": 0.75, "observations": 0}


def test_xarray_opens_the_current_version_without_options(place: Place, recwarn: pytest.WarningsRecorder) -> None:
    source = tile()
    write_tile(place, stream(source[["red"]]), metadata={})
    write_tile(place, stream(source[["tc_wetness"]]), metadata={}, keep=place.require().contents)
    with xr.open_zarr(place.current_url()) as opened:
        assert set(opened.data_vars) == {"red", "tc_wetness"}
        np.testing.assert_allclose(opened["red"].values, source["red"].values, atol=6e-5)
        np.testing.assert_array_equal(opened["tc_wetness"].values, source["tc_wetness"].values)
        assert opened.odc.geobox == GRID
    assert not [warning for warning in recwarn if "Failed to open" in str(warning.message)]


def test_no_path_opens_as_an_empty_dataset(place: Place) -> None:
    write_tile(place, stream(tile()), metadata={})
    for path in (place.location.path, place.location.path.parent):
        with pytest.raises((FileNotFoundError, GroupNotFoundError)):
            xr.open_zarr(path)


def test_nothing_published_is_not_readable(place: Place) -> None:
    assert place.manifest() is None
    assert not place.location.path.exists(), "reading must not create anything"
    with pytest.raises(NotReadableError, match=r"scene 1.*nothing has been published"):
        read_tile(place)


def test_a_failed_write_leaves_the_old_content(place: Place) -> None:
    write_tile(place, stream(tile(1)), metadata={})
    before = versions(place)

    def broken():
        yield tile(2).isel(y=slice(0, 600))
        raise RuntimeError("source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        write_tile(place, TileStream(GRID, ("red", "tc_wetness"), broken()), metadata={})
    assert versions(place) == before
    np.testing.assert_array_equal(read_tile(place)["tc_wetness"].values, tile(1)["tc_wetness"].values)


def test_a_failed_write_closes_the_stream(place: Place) -> None:
    ended = threading.Event()

    def windows():
        try:
            yield from stream(tile(1)).windows
        finally:
            ended.set()

    def fails(done: int, total: int) -> None:
        raise RuntimeError("progress failed")

    with pytest.raises(RuntimeError, match="progress failed") as held:
        write_tile(place, TileStream(GRID, ("red", "tc_wetness"), windows()), metadata={}, progress=fails)
    assert held.value.__traceback__ is not None  # which keeps the writer's frame, and its generators, alive
    assert ended.is_set()


def test_an_error_after_publishing_does_not_undo_it(place: Place) -> None:
    write_tile(place, stream(tile(1)), metadata={})
    (before,) = versions(place)
    published = []

    def publish_and_fail() -> None:
        with place.new_version() as version:
            version.location.path.mkdir()
            place.publish(version, {"x": version.id}, {})
            published.append(version.id)
            raise RuntimeError("after")

    with pytest.raises(RuntimeError, match="after"):
        publish_and_fail()
    assert place.require().contents == {"x": published[0]}
    assert versions(place) == sorted([before, *published])


def test_a_stream_that_ends_early_is_refused(place: Place) -> None:
    short = TileStream(GRID, ("red", "tc_wetness"), iter([tile().isel(y=slice(0, 600))]))
    with pytest.raises(ValueError, match="600 of 1300 rows"):
        write_tile(place, short, metadata={})
    assert place.manifest() is None


def test_bands_are_added_beside_those_that_are_kept(place: Place) -> None:
    first, second = tile(1), tile(2)
    write_tile(place, stream(first[["red"]]), metadata={})
    kept = place.require().contents
    added = write_tile(place, stream(second[["tc_wetness"]]), metadata={}, keep=kept)
    (old,), (new,) = kept.values(), place.require().versions
    assert place.require().contents == {"red": new, "tc_wetness": new}
    files = [place.location.path / version / "red/c/1/0" for version in (old, new)]
    assert files[0].samefile(files[1]), "not copied"
    own = [path for path in (place.location.path / new).rglob("*") if path.is_file() and "red" not in path.parts]
    assert added.size == sum(path.stat().st_size for path in own)
    both = read_tile(place)
    np.testing.assert_allclose(both["red"].values, first["red"].values, atol=6e-5)
    np.testing.assert_array_equal(both["tc_wetness"].values, second["tc_wetness"].values)


def test_a_lost_chunk_is_an_error_not_zeros(place: Place) -> None:
    write_tile(place, stream(tile()), metadata={})
    opened = read_tile(place)
    next(place.location.path.rglob("red/c/1/0")).unlink()
    assert np.isfinite(opened["tc_wetness"].values).all()
    with pytest.raises(NotReadableError, match="red/c/1/0 is missing"):
        opened["red"].values  # noqa: B018


def test_a_row_of_chunks_is_one_object(place: Place) -> None:
    write_tile(place, stream(tile()), metadata={})
    names = [
        path.relative_to(place.location.path).as_posix().partition("/")[2] for path in place.location.path.rglob("*")
    ]
    assert sorted(name for name in names if name.startswith("red/c/") and name.count("/") == 3) == [
        "red/c/0/0",
        "red/c/1/0",
        "red/c/2/0",
    ]


@pytest.mark.parametrize("columns", [slice(None), slice(0, 100)], ids=["all of it", "a chunk of it"])
@pytest.mark.parametrize("damage", ["a chunk was not written", "cut short", "another byte", "empty"])
def test_a_damaged_shard_is_an_error_not_zeros(place: Place, damage: str, columns: slice) -> None:
    write_tile(place, stream(tile()), metadata={})
    shard = next(place.location.path.rglob("red/c/1/0"))
    whole = shard.read_bytes()
    entries = bytearray(whole[-36:-4])  # offset and length of two chunks
    if damage == "a chunk was not written":
        entries[:16] = b"\xff" * 16
    elif damage == "another byte":
        entries[0] ^= 1
    checksum = whole[-4:] if damage == "another byte" else google_crc32c.value(bytes(entries)).to_bytes(4, "little")
    shard.write_bytes({"cut short": whole[:-1000], "empty": b""}.get(damage, whole[:-36] + bytes(entries) + checksum))
    with pytest.raises(NotReadableError, match=r"red/c/1/0 (is damaged|lacks a chunk)"):
        read_tile(place)["red"][512:1024, columns].values  # noqa: B018


def test_a_patch_reads_the_chunks_under_it(place: Place) -> None:
    source = tile()
    write_tile(place, stream(source), metadata={})
    shard = next(place.location.path.rglob("red/c/1/0"))
    content = bytearray(shard.read_bytes())
    start, length = np.frombuffer(content[-36:-4], dtype="<u8")[:2]
    content[start : start + length] = bytes(length)  # of the left chunk, nothing can be read
    shard.write_bytes(content)
    step = band("red").scale
    assert step is not None
    right = read_tile(place)["red"][600:700, 520:650]
    np.testing.assert_allclose(right.values, source["red"].values[600:700, 520:650], atol=step / 2 * 1.01)


def test_a_missing_band_is_named(place: Place) -> None:
    write_tile(place, stream(tile()), metadata={})
    with pytest.raises(NotReadableError, match="no band nir; it has red, tc_wetness"):
        read_tile(place, ["nir"])


def test_a_damaged_pointer_is_an_error(place: Place) -> None:
    write_tile(place, stream(tile()), metadata={})
    (place.location.path / "current.json").write_text("{")
    with pytest.raises(NotReadableError, match="pointer"):
        read_tile(place)


def test_the_later_of_two_writers_wins(place: Place) -> None:
    with place.new_version() as first, place.new_version() as second:
        place.publish(second, {"x": second.id}, {})
        with pytest.raises(StoreError, match="another run is writing"):
            place.publish(first, {"x": first.id}, {})
    assert place.require().contents == {"x": second.id}


def test_a_part_that_was_replaced_meanwhile_is_not_kept(place: Place) -> None:
    first, second = tile(1), tile(2)
    write_tile(place, stream(first), metadata={})
    kept = {"red": place.require().contents["red"]}
    write_tile(place, stream(second), metadata={})
    with pytest.raises(StoreError, match=rf"red of {kept['red']}.*start this run again"):
        write_tile(place, stream(first[["tc_wetness"]]), metadata={}, keep=kept)
    np.testing.assert_array_equal(read_tile(place)["tc_wetness"].values, second["tc_wetness"].values)


def test_what_is_not_a_version_of_the_place_is_not_removed(place: Place) -> None:
    write_tile(place, stream(tile(1)), metadata={})
    (before,) = versions(place)
    foreign = ["notes", "20240101T000000Z", f"{before}-copy", "my file.txt"]
    for name in foreign:
        (place.location.path / name).mkdir()
        (place.location.path / name / "precious").write_text("")
    (place.location.path / "20240101T000000Z-abcdef").mkdir()  # of a killed writer
    (place.location.path / "20240101T000000Z-abcdef.writer").write_text("{}")  # by a former release
    write_tile(place, stream(tile(2)), metadata={})
    left = {path.name for path in place.location.path.iterdir()}
    assert left == {*foreign, "current.json", "current.json.lock", before, place.require().contents["red"]}


def test_a_reader_of_a_snapshot_is_not_disturbed_by_later_ones(place: Place) -> None:
    write_tile(place, stream(tile(1)[["red"]]), metadata={"made": 1})
    manifest = place.require()
    write_tile(place, stream(tile(2)[["tc_wetness"]]), metadata={"made": 2}, keep=manifest.contents)
    assert (manifest.metadata["made"], read_geobox(place, manifest)) == (1, GRID)
    assert set(read_tile(place, manifest=manifest).data_vars) == {"red"}
    assert set(read_tile(place).data_vars) == {"red", "tc_wetness"}
    write_tile(place, stream(tile(3)), metadata={"made": 3})
    assert set(read_tile(place, manifest=manifest).data_vars) == {"red"}
    for seed in (4, 5):
        write_tile(without_grace(place), stream(tile(seed)), metadata={"made": seed})
    with pytest.raises(NotReadableError, match=r"scene 1.*red.*replaced"):
        read_tile(place, manifest=manifest)


def test_a_slow_reader_reads_the_version_that_it_has_opened_to_its_end(place: Place) -> None:
    write_tile(place, stream(tile(1)), metadata={})
    ours, theirs = read_tile(place)["tc_wetness"], xr.open_zarr(place.current_url())["tc_wetness"]
    top = [opened[:500].values for opened in (ours, theirs)]
    for seed in (2, 3):
        write_tile(place, stream(tile(seed)), metadata={})
    for first, opened in zip(top, (ours, theirs), strict=True):
        whole = np.concatenate([first, opened[500:].values])
        np.testing.assert_array_equal(whole, tile(1)["tc_wetness"].values)


def test_a_replaced_version_is_kept_for_the_grace_time_and_while_it_is_referred_to(place: Place) -> None:
    referred = set[str]()
    due = Place(place.location, Retention(timedelta(0), lambda: referred))
    for seed in (1, 2):
        write_tile(place, stream(tile(seed)), metadata={})
    (new,) = place.require().versions
    (old,) = place.require().replaced
    assert (place.collect(), due.manifest()) == (0, place.require())
    referred.add(old)
    assert due.collect() == 0
    assert versions(place) == sorted([old, new])
    referred.clear()
    assert due.collect() == 1
    assert versions(place) == [new]
    assert place.require().replaced == {}
    np.testing.assert_array_equal(read_tile(place)["tc_wetness"].values, tile(2)["tc_wetness"].values)


def test_replaced_versions_stay_if_the_references_cannot_be_read(place: Place) -> None:
    def unreadable() -> set[str]:
        raise OSError("the catalog cannot be read")

    for seed in (1, 2):
        write_tile(place, stream(tile(seed)), metadata={})
    write_tile(Place(place.location, Retention(timedelta(0), unreadable)), stream(tile(3)), metadata={})
    assert len(versions(place)) == 3
    np.testing.assert_array_equal(read_tile(place)["tc_wetness"].values, tile(3)["tc_wetness"].values)


def test_a_collection_does_not_disturb_a_writer_that_is_active(place: Place) -> None:
    for seed in (1, 2):
        write_tile(place, stream(tile(seed)), metadata={})
    with place.new_version() as version:
        assert without_grace(place).collect() == 0
        version.location.path.mkdir()
        place.publish(version, {"x": version.id}, {})
    assert without_grace(place).collect() == 2


def test_a_collection_removes_what_a_dead_writer_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tile(place, stream(tile(1)), metadata={})
    (current,) = versions(place)
    killed = place.new_version()
    killed.__enter__()
    (place.location.path / place_writer(place)).mkdir()
    assert place.collect() == 0
    monkeypatch.setattr("darts_assets.stores.publish._STALLED", timedelta(0))
    assert place.collect() == 1
    assert versions(place) == [current]
    del killed


def place_writer(place: Place) -> str:
    return json.loads((place.location.path / "current.json").read_bytes())["writer"]


def test_a_pointer_written_by_a_former_release_is_read_and_replaced(place: Place) -> None:
    write_tile(place, stream(tile(1)), metadata={})
    pointer = place.location.path / "current.json"
    document = json.loads(pointer.read_bytes())
    for name in ("writer", "revision", "replaced"):
        del document[name]
    pointer.write_text(json.dumps(document))
    np.testing.assert_array_equal(read_tile(place)["tc_wetness"].values, tile(1)["tc_wetness"].values)
    write_tile(place, stream(tile(2)), metadata={})
    assert place.require().versions < set(versions(place))


def test_a_held_lock_is_an_error_after_a_while(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tile(place, stream(tile(1)), metadata={})
    monkeypatch.setattr("darts_assets.stores.pointer._LOCK_SECONDS", 0.1)
    with (
        FileLock(place.location.path / "current.json.lock"),
        pytest.raises(StoreError, match=r"current\.json\.lock: another process has held this lock for 0\.1 s"),
    ):
        write_tile(place, stream(tile(2)), metadata={})
    np.testing.assert_array_equal(read_tile(place)["tc_wetness"].values, tile(1)["tc_wetness"].values)

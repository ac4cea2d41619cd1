"""Checks of files: existence, size, structure, pixels, checksums."""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from darts_assets.errors import RasterError
from darts_assets.remote.byte_reader import ByteReader
from darts_assets.scene import Scene
from darts_assets.sources import check_files, fetch, open_raw, parse_item, read_item, scene_grid
from darts_assets.sources.rasters.integrity import Checksum

ALL = ("blue", "green", "red", "nir", "rededge071", "nir09", "s2_scl")


def scene_of(made, *, sizes: bool = True) -> Scene:
    if not sizes:
        for asset in made.item["assets"].values():
            asset.pop("file:size", None)
    return parse_item(read_item(str(made.write_item())))


def assert_refused(made, band: str, path: Path, words: str, *, sizes: bool = False) -> None:
    """Whatever reads the band fails, and names scene, band and file."""
    scene = scene_of(made, sizes=sizes)
    for attempt in (check_files, open_raw, fetch):
        with pytest.raises(RasterError, match=words) as raised:
            attempt(scene, ALL)
        assert f"scene {scene.id}, band {band}, file {path}" in str(raised.value)
    others = [name for name in ALL if name != band]
    assert list(check_files(scene, others)) == others


def test_sound_files_pass(made, made_grid, caplog):
    with caplog.at_level(logging.WARNING):
        headers = check_files(scene_of(made), ALL)
    assert list(headers) == list(ALL)
    assert headers["blue"].grid == made_grid
    assert headers["nir09"].grid.shape == (40, 40)
    assert headers["blue"].block_rows == 64
    assert not caplog.records


def test_missing_file(made):
    made.path("B03_10m").unlink()
    assert_refused(made, "green", made.path("B03_10m"), "there is no such file")


def test_size_other_than_promised(made):
    path = made.path("B03_10m")
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert_refused(made, "green", path, f"is truncated: it has {len(content) - 1} bytes", sizes=True)
    path.write_bytes(content + b"\0")
    assert_refused(made, "green", path, "has the wrong size", sizes=True)


@pytest.mark.parametrize("keep", [0.5, 0.9, -5])
def test_truncated_geotiff(made, keep):
    # The header of a COG comes first, so that a cut one opens; its last 4 bytes are no pixels but a copy.
    path = made.path("B03_10m")
    with rasterio.open(path) as file:
        rasterio.shutil.copy(file, made.folder / "cog.tif", driver="COG")
    content = (made.folder / "cog.tif").read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep > 0 else keep])
    assert_refused(made, "green", path, "is truncated: it has .* bytes, a block ends at byte")


@pytest.mark.parametrize("content", [b"", b"II*\0", b"<html>please log in</html>"])
def test_not_a_raster(made, content):
    made.path("B03_10m").write_bytes(content)
    assert_refused(made, "green", made.path("B03_10m"), "cannot be opened as a raster")


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int16"])
def test_wrong_dtype(made, raster_writer, dtype):
    raster_writer(made.path("B03_10m"), made.values["green"].astype(dtype), 10)
    assert_refused(made, "green", made.path("B03_10m"), f"values of type {dtype}, uint16 was expected")


def test_wrong_dtype_of_classes(made, raster_writer):
    raster_writer(made.path("SCL_20m"), made.values["s2_scl"].astype(np.uint16), 20)
    assert_refused(made, "s2_scl", made.path("SCL_20m"), "values of type uint16, uint8 was expected")


def test_wrong_crs(made, raster_writer):
    raster_writer(made.path("B03_10m"), made.values["green"], 10, epsg=32609)
    assert_refused(made, "green", made.path("B03_10m"), "has CRS EPSG:32609, its item EPSG:32608")


def test_no_such_band_in_the_file(made):
    item = made.item
    item["assets"] = {
        "data": {"href": "B02_10m.tif", "proj:code": "EPSG:32608", "raster:scale": 1e-4}
        | {"bands": [{"eo:common_name": name} for name in ("blue", "green", "red", "nir")]}
    }
    scene = parse_item(read_item(str(made.write_item())))
    with pytest.raises(RasterError, match=r"band green, file .*B02_10m\.tif has 1 band\(s\), band 2 was expected"):
        check_files(scene, ["blue", "green"])


def test_other_area(made, raster_writer):
    raster_writer(made.path("B05_20m"), made.values["rededge071"][:100], 20)
    assert_refused(made, "rededge071", made.path("B05_20m"), r"covers .*, the other bands ")


def move(path: Path, east: float, north: float) -> None:
    with rasterio.open(path, "r+") as file:
        file.transform = rasterio.Affine.translation(east, north) @ file.transform


@pytest.mark.parametrize(
    ("asset", "band", "east", "north"),
    [
        ("B03_10m", "green", 5, 0),
        ("B03_10m", "green", 0, -10),
        ("B05_20m", "rededge071", 5, 0),
        ("SCL_20m", "s2_scl", -3, 20),
        ("B09_60m", "nir09", 15, -15),
    ],
)
def test_a_shifted_band_is_refused(made, asset, band, east, north):
    move(made.path(asset), east, north)
    words = f"is shifted by {east} m east and {north} m north against the other bands; bands that begin at"
    assert_refused(made, band, made.path(asset), words)


def test_a_coarser_band_shifted_by_whole_pixels_is_a_warning(made, caplog):
    move(made.path("SCL_20m"), 10, -20)
    scene = scene_of(made, sizes=False)
    with caplog.at_level(logging.WARNING):
        assert list(check_files(scene, ALL)) == list(ALL)
    shifts = [text for text in caplog.messages if "shifted" in text]
    assert len(shifts) == 1
    assert "band s2_scl" in shifts[0]
    assert "is shifted by 10 m east and -20 m north against the other bands and is resampled as it lies" in shifts[0]


def test_a_coarser_band_around_a_clipped_scene_is_aligned(made, made_grid, caplog):
    scene = scene_of(made)
    with caplog.at_level(logging.WARNING):
        check_files(scene, ["rededge071"], area=made_grid[1:, 1:])
    assert not caplog.records


def test_corrupt_block_fails_on_reading(made):
    path = made.path("B03_10m")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    path.write_bytes(content)
    scene = scene_of(made)
    with pytest.raises(RasterError, match=f"band green, file {path} cannot be read"):
        fetch(scene, ["blue", "green"]).collect()
    with pytest.raises(RasterError, match=f"band green, file {path} cannot be read"):
        open_raw(scene, ["blue", "green"]).compute()
    assert np.array_equal(open_raw(scene, ["blue"])["blue"].values, made.values["blue"])


@pytest.mark.parametrize("band", ["B02", "B03", "B04", "B08"])
def test_real_truncated_jp2_heads(shared, made, band):
    # One window of these decodes to garbage without an error.
    (head,) = (shared / "data" / "geoengine").rglob(f"*_{band}_10m.jp2.head")
    path = made.folder / head.name.removesuffix(".head")
    path.write_bytes(head.read_bytes())
    made.item["assets"][f"{band}_10m"]["href"] = path.name
    name = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}[band]
    assert_refused(made, name, path, "is truncated or damaged: the codestream does not end with its end marker")


@pytest.mark.parametrize("keep", [0.5, -1, 0.97])
def test_truncated_real_jp2(made, real_jp2, keep):
    content = real_jp2.read_bytes()
    path = made.folder / "B03.jp2"
    path.write_bytes(content[: int(keep * len(content)) if keep > 0 else keep])
    made.item["assets"]["B03_10m"]["href"] = path.name
    assert_refused(made, "green", path, "is truncated or damaged")


def test_sparse_files_are_complete(made, raster_writer):
    raster_writer(made.path("B03_10m"), np.zeros((240, 240), np.uint16), 10, sparse_ok=True)
    check_files(scene_of(made, sizes=False), ALL)


PREFIXES = {
    "md5": "d50110",
    "sha1": "1114",
    "sha224": "93201c",
    "sha256": "1220",
    "sha384": "2030",
    "sha512": "1340",
    "sha3_224": "171c",
    "sha3_256": "1620",
    "sha3_384": "1530",
    "sha3_512": "1440",
}


@pytest.mark.parametrize(("function", "prefix"), PREFIXES.items())
def test_multihashes(tmp_path: Path, function: str, prefix: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content" * 1000)
    digest = hashlib.new(function, path.read_bytes()).hexdigest()
    checksum = Checksum.parse((prefix + digest).upper())
    assert checksum == Checksum(function, digest)
    assert checksum.of(ByteReader(str(path))) == digest


@pytest.mark.parametrize(
    "text",
    ["", "12", "xyz", "1220" + 31 * "ab", "1220" + 33 * "ab", "1210" + 16 * "ab", "1e20" + 32 * "ab", "80", "ff"],
)
def test_what_is_no_multihash_that_we_know(text: str) -> None:
    assert Checksum.parse(text) is None


def test_cdse_gives_sha3(shared: Path) -> None:
    (path,) = (shared / "data" / "cdse_stac").rglob("S2A_MSIL2A_20230625T234621_*_T01WCP_*.json")
    bands = parse_item(json.loads(path.read_text())).bands
    kinds = {Checksum.parse(str(band.checksum)).function for band in bands.values()}  # type: ignore[union-attr]
    assert kinds == {"sha3_256"}
    assert len(bands) == 13


def promise(made, asset: str, function: str = "sha256") -> str:
    digest = hashlib.new(function, made.path(asset).read_bytes()).hexdigest()
    made.item["assets"][asset]["file:checksum"] = PREFIXES[function] + digest
    return made.item["assets"][asset]["file:checksum"]


def test_local_files_are_verified(made) -> None:
    promised = {"blue": promise(made, "B02_10m", "md5"), "s2_scl": promise(made, "SCL_20m")}
    scene = parse_item(read_item(str(made.write_item())))
    assert fetch(scene, ALL).attrs["checksums"] == promised
    assert open_raw(scene, ["blue"]).attrs["checksums"] == {"blue": promised["blue"]}
    assert "checksums" not in fetch(scene, ["green"]).attrs


def test_other_contents_of_the_same_size(made) -> None:
    promise(made, "B03_10m")
    path = made.path("B03_10m")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    scene = parse_item(read_item(str(made.write_item())))
    expected = scene.bands["green"].checksum
    found = hashlib.sha256(content).hexdigest()
    for read in (fetch, open_raw):
        with pytest.raises(RasterError) as raised:
            read(scene, ALL)
        assert str(raised.value) == (
            f"scene {scene.id}, band green, file {path} is damaged: its sha256 is {found}, "
            f"its item states {str(expected)[4:]}"
        )
    scene_grid(scene, ALL)  # needs no pixels


def test_bands_that_share_a_file_share_its_checksum(made, raster_writer) -> None:
    values = [made.values[name] for name in ("blue", "green", "red", "nir")]
    raster_writer(made.folder / "all.tif", np.stack(values), 10)
    multihash = "1220" + hashlib.sha256((made.folder / "all.tif").read_bytes()).hexdigest()
    bands = [{"eo:common_name": name, "scale": 1e-4, "offset": 0} for name in ("blue", "green", "red", "nir")]
    asset = {"href": "all.tif", "proj:code": "EPSG:32608", "file:checksum": multihash, "bands": bands}
    made.item["assets"] = {"data": asset}
    scene = parse_item(read_item(str(made.write_item())))
    assert fetch(scene, ["nir", "red"]).attrs["checksums"] == {"red": multihash, "nir": multihash}


def test_unknown_kinds_are_logged(made, caplog) -> None:
    made.item["assets"]["B02_10m"]["file:checksum"] = "1e20" + 32 * "ab"
    scene = parse_item(read_item(str(made.write_item())))
    with caplog.at_level(logging.WARNING):
        assert "checksums" not in fetch(scene, ["blue"]).attrs
    (record,) = caplog.records
    assert "is of an unknown kind and was not verified" in record.message
    assert "band blue" in record.message


@pytest.mark.parametrize(
    ("side", "block", "words"),
    [
        (1_000_000, 512, "declares 1000000 x 1000000 pixels"),
        (20_000, 16, "declares 1562500 blocks for 400000000 pixels"),
    ],
)
def test_declared_sizes_are_checked_before_anything_is_looped_over(made, side, block, words):
    path = made.path("B03_10m")
    profile = {"driver": "GTiff", "tiled": True, "blockxsize": block, "blockysize": block, "count": 1}
    options = {"dtype": "uint16", "sparse_ok": True, "BIGTIFF": "YES", "crs": "EPSG:32608"}
    with rasterio.open(path, "w", width=side, height=side, **profile, **options):
        pass
    assert_refused(made, "green", path, words)

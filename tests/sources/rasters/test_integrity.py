import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from darts_assets.errors import RasterError
from darts_assets.scene import Scene
from darts_assets.sources import check_files, fetch, open_raw, parse_item, read_item

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
    assert_refused(made, "green", path, "is not the promised one", sizes=True)


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
    assert_refused(made, "green", made.path("B03_10m"), "has CRS EPSG:32609, its item says EPSG:32608")


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
    assert_refused(made, "rededge071", made.path("B05_20m"), "was expected as of the other bands")


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

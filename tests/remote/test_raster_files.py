"""Rasters that would read something else, or more than there is memory for."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError

from darts_assets.cubes._raster import with_raster
from darts_assets.errors import DartsError, RasterError
from darts_assets.remote.byte_reader import S3Options
from darts_assets.remote.raster_files import open_raster
from darts_assets.sources.rasters.odc_driver import GdalFiles
from tests.servers.network.file_server import serve_folder

SECRET = b"AWS_SECRET_ACCESS_KEY=secret"
SIDE = 8

RAW = """<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><VRTRasterBand dataType="Byte" band="1"
subClass="VRTRawRasterBand"><SourceFilename relativetoVRT="0">{other}</SourceFilename></VRTRasterBand></VRTDataset>"""
SIMPLE = """<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename>{other}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""
WMS = "<GDAL_WMS><Service name='TMS'><ServerUrl>{other}</ServerUrl></Service></GDAL_WMS>"


def write_tiff(path: Path, *, side: int = SIDE, **options: Any) -> Path:
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8", **options}
    tags = profile.pop("tags", {})
    with rasterio.open(
        path, "w", crs="EPSG:32608", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 75e5), **profile
    ) as file:
        for namespace, values in tags.items():
            file.update_tags(ns=namespace, **values)
        if side == SIDE:
            file.write(np.frombuffer(SECRET.ljust(SIDE * SIDE), np.uint8).reshape(1, SIDE, SIDE))
    return path


READERS: dict[str, Callable[[str], object]] = {
    "any": lambda href: open_raster(href).read(),
    "cubes": lambda href: with_raster(href, lambda raster: raster.read()),
    "scenes": lambda href: GdalFiles([href], S3Options()).read(href, "here", lambda: open_raster(href).read()),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", [RAW, SIMPLE, WMS], ids=["raw", "simple", "wms"])
def test_a_raster_that_refers_to_a_file(tmp_path: Path, text: str, reader: str) -> None:
    other = tmp_path / "secret"
    other.write_bytes(SECRET.ljust(SIDE * SIDE)) if text is RAW else write_tiff(other)
    (path := tmp_path / "B02.tif").write_text(text.format(side=SIDE, other=other))
    with pytest.raises((RasterioIOError, RasterError)) as error:
        READERS[reader](str(path))
    assert "not recognized as being in a supported file format" in str(error.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_remote_raster_that_refers_to_a_url(tmp_path: Path, reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darts_assets.remote.retry.BACKOFF", (0.0, 0.0))
    with serve_folder(tmp_path) as url, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.01)
        other = f"/vsicurl/http://127.0.0.1:{listener.getsockname()[1]}/internal.tif"
        (tmp_path / "B02.tif").write_text(SIMPLE.format(side=SIDE, other=other))
        with rasterio.Env(GDAL_HTTP_TIMEOUT=5), pytest.raises((RasterioIOError, DartsError)):
            READERS[reader](f"{url}/B02.tif")
        with pytest.raises(TimeoutError):
            listener.accept()


def test_paths_that_gdal_would_interpret(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif")
    with serve_folder(tmp_path) as url:
        for href in (f"/vsicurl/{url}/a.tif", f"GTIFF_DIR:1:{tmp_path}/a.tif", f"zip://{tmp_path}/a.zip!a.tif", RAW):
            with pytest.raises(RasterioIOError, match="No such file"):
                open_raster(href)


def test_overviews_in_another_file(tmp_path: Path) -> None:
    write_tiff(tmp_path / "secret.tif")
    tags = {"OVERVIEWS": {"OVERVIEW_FILE": str(tmp_path / "secret.tif")}}
    path = write_tiff(tmp_path / "a.tif", tags=tags)
    with pytest.raises(RasterioIOError, match="refers to another file for its overviews"):
        open_raster(str(path))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"count": 300, "side": 16}, "declares 300 bands; at most 256"),
        (
            {"side": 40_000, "tiled": True, "blockxsize": 32_768, "blockysize": 32_768, "sparse_ok": True},
            "declares blocks of 1073741824 bytes",
        ),
        (
            {
                "side": 16_384, "count": 200, "tiled": True, "blockxsize": 2048, "blockysize": 2048, "sparse_ok": True,
                "interleave": "pixel", "BIGTIFF": "YES",
            },
            "declares blocks of 838860800 bytes",
        ),
    ],
)  # fmt: skip
def test_declared_sizes(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    path = write_tiff(tmp_path / "a.tif", **options)
    assert path.stat().st_size < 10**6
    with pytest.raises(RasterioIOError, match=problem):
        open_raster(str(path))


def test_formats(tmp_path: Path) -> None:
    values = np.arange(64 * 64, dtype=np.uint16).reshape(1, 64, 64)
    for driver, options in (("GTiff", {}), ("JP2OpenJPEG", {"QUALITY": "100", "REVERSIBLE": "YES"})):
        path = tmp_path / "a.tif"
        profile = {"driver": driver, "width": 64, "height": 64, "count": 1, "dtype": "uint16", **options}
        with rasterio.open(path, "w", **profile) as file:
            file.write(values)
        with open_raster(str(path)) as raster:
            assert raster.driver == driver
            assert np.array_equal(raster.read(), values)

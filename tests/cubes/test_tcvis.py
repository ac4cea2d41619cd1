"""Chunks of TCVIS equal the raster they come from."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from darts_assets.bands import TCVIS
from darts_assets.cubes import CHUNK, TcvisRasters, tcvis_spec, vintage_for
from darts_assets.cubes.tcvis import RESOLUTION
from darts_assets.errors import CubeError, RasterError

GRID = tcvis_spec(2024).grid
CHUNK_BOX = GRID.chunk_geobox(80, 123)


def random(height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (3, height, width), dtype="uint8")


@pytest.fixture
def template(tmp_path: Path) -> str:
    return str(tmp_path / "tcvis_{vintage}.tif")


def test_vintages_lag_a_year() -> None:
    assert [vintage_for(year) for year in (2016, 2018, 2019, 2020, 2021, 2022, 2023, 2024, 2030)] == [
        2019, 2019, 2020, 2022, 2022, 2024, 2024, 2024, 2024
    ]  # fmt: skip
    assert tcvis_spec(2020).name == "tcvis_2020"
    assert tcvis_spec(2020).grid.key(1, 2) == "2020-r0001-c0002"
    with pytest.raises(CubeError, match="not 2021"):
        tcvis_spec(2021)


def test_a_raster_on_the_lattice_is_copied(template: str, tmp_path: Path, raster_writer) -> None:
    values = random(700, 600)
    rows, cols = GRID.chunk_slices(80, 123)
    box = GRID.geobox[rows.start - 100 : rows.start + 600, cols.start + 500 : cols.start + 1100]
    raster_writer(tmp_path / "tcvis_2020.tif", values, box)
    data = TcvisRasters(template).read_chunk(2020, CHUNK_BOX)
    assert list(data.values) == list(TCVIS)
    for name, band in zip(TCVIS, values, strict=True):
        expected = np.zeros((CHUNK, CHUNK), dtype="uint8")
        expected[:600, 500:] = band[100:, :524]
        np.testing.assert_array_equal(data.values[name], expected)
    assert data.fill_fraction == pytest.approx(600 * 524 / CHUNK**2)
    assert data.sources == ("tcvis_2020.tif",)


def test_a_raster_off_the_lattice_keeps_its_values(template: str, tmp_path: Path, raster_writer) -> None:
    values = random(300, 300)
    box = GeoBox(
        (300, 300), Affine.translation(0.3 * RESOLUTION, -0.2 * RESOLUTION) @ CHUNK_BOX[:300, :300].affine, "EPSG:4326"
    )
    raster_writer(tmp_path / "tcvis_2024.tif", values, box)
    data = TcvisRasters(template).read_chunk(2024, CHUNK_BOX)
    np.testing.assert_array_equal(data.values["tc_wetness"][:300, :300], values[2])
    assert data.fill_fraction == pytest.approx(300 * 300 / CHUNK**2)


@pytest.mark.parametrize(
    "names", [("tc_wetness", "tc_brightness", "tc_greenness"), ("TCW_slope", "TCB_slope", "TCG_slope")]
)
def test_bands_are_told_by_their_descriptions(template: str, tmp_path: Path, raster_writer, names) -> None:
    values = random(50, 50)
    raster_writer(tmp_path / "tcvis_2024.tif", values, CHUNK_BOX[:50, :50], descriptions=names)
    found = TcvisRasters(template).read_chunk(2024, CHUNK_BOX).values
    for name, index in (("tc_brightness", 1), ("tc_greenness", 2), ("tc_wetness", 0)):
        np.testing.assert_array_equal(found[name][:50, :50], values[index])


def test_the_other_side_of_the_antimeridian_is_read_from_the_west(template: str, tmp_path: Path) -> None:
    row, col = 80, int(360 / RESOLUTION) // CHUNK  # the chunk that straddles it
    straddling, beyond = GRID.chunk_geobox(row, col), GRID.chunk_geobox(row, col + 1)
    assert straddling.boundingbox.left < 180 < straddling.boundingbox.right
    # A raster around the globe, sparse but for its ends; values are a function of the column.
    globe = GRID.geobox[row * CHUNK : (row + 1) * CHUNK, : int(360 / RESOLUTION) + 1]
    width = int(globe.shape[1])
    with rasterio.open(
        tmp_path / "tcvis_2024.tif", "w", driver="GTiff", width=width, height=CHUNK, count=3, dtype="uint8",
        crs="EPSG:4326", transform=globe.affine, tiled=True, compress="deflate", sparse_ok=True,
    ) as file:  # fmt: skip
        for start, stop in ((0, 2 * CHUNK), (width - 2 * CHUNK, width)):
            columns = np.broadcast_to(1 + np.arange(start, stop) % 251, (3, CHUNK, stop - start)).astype("uint8")
            file.write(columns, window=Window(start, 0, stop - start, CHUNK))
    rasters = TcvisRasters(template)

    def expected(box: GeoBox) -> np.ndarray:
        lon = (box.affine.c + (np.arange(CHUNK) + 0.5) * RESOLUTION + 180) % 360
        return (1 + (lon / RESOLUTION).astype(int) % 251).astype("uint8")

    for box in (straddling, beyond):
        data = rasters.read_chunk(2024, box)
        np.testing.assert_array_equal(data.values["tc_brightness"][7], expected(box))
        assert data.fill_fraction == 1


def test_bad_rasters_are_named(template: str, tmp_path: Path, raster_writer) -> None:
    rasters = TcvisRasters(template)
    path = tmp_path / "tcvis_2019.tif"
    box = CHUNK_BOX[:50, :50]

    with pytest.raises(CubeError, match=rf"vintage 2019: .*{path.name} does not exist"):
        rasters.read_chunk(2019, CHUNK_BOX)
    for values, grid, words in [
        (random(50, 50)[:2], box, "has 2 band"),
        (random(50, 50).astype("int16"), box, "of int16, expected 3 of uint8"),
        (random(50, 50), GeoBox(box.shape, box.affine, "EPSG:3413"), "is in EPSG:3413, expected EPSG:4326"),
    ]:
        raster_writer(path, values, grid)
        with pytest.raises(RasterError, match=words):
            rasters.read_chunk(2019, CHUNK_BOX)
    raster_writer(path, random(50, 50), box, descriptions=("red", "green", "blue"))
    with pytest.raises(RasterError, match="has the bands red, green, blue, expected tc_brightness"):
        rasters.read_chunk(2019, CHUNK_BOX)
    path.write_bytes(b"nothing")
    with pytest.raises(RasterError, match=rf"{path.name} cannot be read"):
        rasters.read_chunk(2019, CHUNK_BOX)

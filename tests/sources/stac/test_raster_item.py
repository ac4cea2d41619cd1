"""GeoTIFFs as STAC items of scenes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from darts_assets.errors import RasterError, SceneError
from darts_assets.remote.byte_reader import S3Options
from darts_assets.sources.sentinel2.parse_item import parse_item
from darts_assets.sources.stac.raster_item import items_at, raster_item

NAME = "S2_20210821T210019_T08WMA.tif"


def write(
    path: Path, count: int = 4, dtype: str = "uint16", crs: Any = "EPSG:32608", names: tuple[str, ...] = ()
) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "height": 20, "width": 30, "count": count, "dtype": dtype, "crs": crs}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(10, 0, 500_000, 0, -10, 7_600_000)) as file:
        file.write(np.ones((count, 20, 30), dtype))
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)
    return str(path)


def test_a_file_of_four_bands_is_a_scene(tmp_path: Path) -> None:
    scene = parse_item(raster_item(write(tmp_path / NAME), (), S3Options()))
    assert (scene.id, scene.datetime.isoformat(), scene.epsg) == (NAME[:-4], "2021-08-21T21:00:19+00:00", 32608)
    assert {name: band.index for name, band in scene.bands.items()} == {"blue": 1, "green": 2, "red": 3, "nir": 4}
    assert {(band.scale, band.offset, band.nodata) for band in scene.bands.values()} == {(1e-4, 0.0, 0)}
    assert scene.bands["red"].grid is not None
    assert scene.bands["red"].grid.shape == (20, 30)


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (("B2", "B3", "B4", "B5", "B8"), ()),
        ((), ("blue", "green", "red", "", "nir")),
        (("blue", "green", "red", "?", "nir"), ()),
    ],
)
def test_bands_are_described_or_given(tmp_path: Path, names: tuple[str, ...], given: tuple[str, ...]) -> None:
    path = write(tmp_path / "2021-08-21.tif", 5, names=names)
    scene = parse_item(raster_item(path, given, S3Options(), offset=-0.1))
    assert {name: band.index for name, band in scene.bands.items()} == {"blue": 1, "green": 2, "red": 3, "nir": 5}
    assert scene.bands["nir"].offset == -0.1
    assert scene.datetime.date().isoformat() == "2021-08-21"


def test_a_folder_has_items_and_rasters(tmp_path: Path) -> None:
    for name in ("b_20220701.tif", "a_20210701.TIF"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    assert [item["id"] for item in items_at(str(tmp_path), (), S3Options())] == ["a_20210701", "b_20220701"]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SceneError, match="neither STAC items"):
        items_at(str(tmp_path / "nothing"), (), S3Options())
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(SceneError, match="not a STAC item"):
        items_at(str(tmp_path), (), S3Options())


@pytest.mark.parametrize(
    ("name", "options", "bands", "words"),
    [
        ("clip.tif", {}, (), "clip.tif: its name has no date"),
        ("20211399.tif", {}, (), "its name has no date"),
        (NAME, {"count": 7}, (), r"7 bands \(-, -, -, -, -, -, -\); set `bands`"),
        (NAME, {"count": 3}, ("blue", "green", "red", "nir"), "has 3 bands"),
        (NAME, {}, ("blue", "green", "rot", "nir"), "unknown bands rot"),
        (NAME, {"dtype": "float32"}, (), "its pixels are float32; uint16, reflectance x 10,000, was expected"),
        (NAME, {"crs": None}, (), "its CRS has no EPSG code"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, name: str, options: dict[str, Any], bands: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SceneError, match=words):
        raster_item(write(tmp_path / name, **options), bands, S3Options())


def test_a_file_that_is_no_raster_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("nothing")
    with pytest.raises(RasterError, match=f"{NAME} cannot be opened"):
        raster_item(str(tmp_path / NAME), (), S3Options())

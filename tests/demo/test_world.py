import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
from rasterio.features import rasterize

from darts_assets.cubes.tcvis import RESOLUTION
from darts_assets.demo import World, build_world
from darts_assets.demo.demo_scenes import ACQUISITIONS
from darts_assets.errors import SettingsError
from darts_assets.sources import parse_item, read_item

pytestmark = pytest.mark.slow

BUILD = """
import json, sys
from pathlib import Path
from darts_assets.demo import build_world
build_world(Path(sys.argv[1]), **json.loads(sys.argv[2]))
"""


def rasters(folder: Path) -> dict[str, str]:
    """Digest of the pixels of every raster below a folder."""
    digests = {}
    for path in sorted(folder.rglob("*.tif")):
        with rasterio.open(path) as source:
            digests[path.relative_to(folder).as_posix()] = hashlib.sha256(source.read().tobytes()).hexdigest()
    return digests


def read(path: str | Path) -> Any:
    with rasterio.open(path) as source:
        return source.read(1)


def numbers(item: dict[str, Any]) -> dict[str, Any]:
    return {name: read(asset["href"]) for name, asset in item["assets"].items()}


def test_a_seed_gives_the_same_pixels_and_another_seed_others(
    world: World, parameters: dict[str, int], tmp_path: Path
) -> None:
    again = build_world(tmp_path / "again", **parameters)
    assert rasters(again.folder) == rasters(world.folder)
    first, second = (gpd.read_file(w.truth) for w in (world, again))
    assert first.equals(second)
    other = build_world(tmp_path / "other", **(parameters | {"seed": 4, "scenes": 1}))
    assert set(rasters(other.folder).values()).isdisjoint(set(rasters(world.folder).values()))


def test_items_are_stac_in_the_layout_of_cdse(world: World) -> None:
    for path, acquisition in zip(world.items, ACQUISITIONS, strict=True):
        item = pystac.Item.from_file(str(path))
        assert item.id == path.stem == acquisition.id
        assert item.collection_id == "sentinel-2-l2a"
        assert set(item.assets) == {"B02_10m", "B03_10m", "B04_10m", "B08_10m", "SCL_20m"}
        assert all(asset.href.startswith("./") for asset in item.assets.values())
        lon, lat = item.bbox[0], item.bbox[1]
        assert -137 < lon < -134
        assert 68 < lat < 70
        shares = item.properties["statistics"]
        clouds = shares["medium_proba_clouds"] + shares["high_proba_clouds"] + shares["thin_cirrus"]
        assert item.properties["eo:cloud_cover"] == pytest.approx(clouds, abs=0.01)
        assert sum(shares.values()) - shares["nodata"] == pytest.approx(100, abs=0.01)


def test_items_promise_what_the_files_are(world: World) -> None:
    for path in world.items:
        for name, asset in read_item(str(path))["assets"].items():
            file = Path(asset["href"])
            with rasterio.open(file) as source:
                assert source.crs.to_string() == asset["proj:code"] == "EPSG:32608"
                assert list(source.shape) == asset["proj:shape"]
                assert list(source.transform)[:6] == asset["proj:transform"]
                assert source.dtypes == (asset["data_type"],) == (("uint8",) if name == "SCL_20m" else ("uint16",))
                assert source.nodata == asset["nodata"] == 0
                assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert file.stat().st_size == asset["file:size"]
            assert asset["file:checksum"] == "1620" + hashlib.sha3_256(file.read_bytes()).hexdigest()


def test_scenes_are_understood_by_the_source(world: World) -> None:
    for path, acquisition in zip(world.items, ACQUISITIONS, strict=True):
        scene = parse_item(read_item(str(path)))
        assert (scene.source, scene.epsg, scene.tile) == ("cdse", 32608, acquisition.tile)
        assert scene.processing_baseline == acquisition.baseline
        assert {band.offset for name, band in scene.bands.items() if name != "s2_scl"} == {acquisition.offset}
        assert (scene.sun_azimuth, scene.sun_elevation) == (acquisition.sun_azimuth, acquisition.sun_elevation)
    assert [a.offset for a in ACQUISITIONS] == [-0.1, -0.1, 0.0]


def test_no_data_is_the_same_in_every_band(world: World) -> None:
    shares = []
    for path in world.items:
        bands = numbers(read_item(str(path)))
        nothing = np.repeat(np.repeat(bands.pop("SCL_20m") == 0, 2, axis=0), 2, axis=1)
        for band in bands.values():
            np.testing.assert_array_equal(band == 0, nothing)
        shares.append(nothing.mean())
    assert shares[0] == shares[2] == 0
    assert 0.03 < shares[1] < 0.3


def test_the_classification_agrees_with_reflectance(world: World) -> None:
    bands = numbers(read_item(str(world.items[1])))
    scl = bands["SCL_20m"]
    red, nir = (bands[name][::2, ::2] * 1e-4 - 0.1 for name in ("B04_10m", "B08_10m"))
    assert {3, 4, 8, 9, 10} <= set(np.unique(scl))
    assert red[scl == 9].mean() > 0.3 > red[scl == 4].mean()
    assert nir[scl == 3].mean() < 0.7 * nir[scl == 4].mean()
    clear = numbers(read_item(str(world.items[0])))["SCL_20m"]
    assert set(np.unique(clear)) <= {2, 4, 5, 6}


def test_the_same_ground_looks_the_same_at_two_baselines(world: World) -> None:
    clear, old = (read_item(str(world.items[n])) for n in (0, 2))
    images = []
    with (
        rasterio.open(clear["assets"]["B04_10m"]["href"]) as first,
        rasterio.open(old["assets"]["B04_10m"]["href"]) as second,
    ):
        left, bottom, right, top = (
            f(pair) for f, pair in zip((max, max, min, min), zip(first.bounds, second.bounds, strict=True), strict=True)
        )
        for source, offset in ((first, -0.1), (second, 0.0)):
            window = source.window(left, bottom, right, top)
            images.append(source.read(1, window=window) * 1e-4 + offset)
    assert images[0].size > 5000
    assert abs(np.median(images[0]) - np.median(images[1])) < 0.005


def test_elevation_tiles_overlap_and_agree(world: World) -> None:
    catalog = pystac.Catalog.from_file(str(world.arcticdem))
    items = list(catalog.get_items())
    assert len(items) >= 2
    parts = []
    for item in items:
        assert item.properties["proj:code"] == "EPSG:3413"
        assert item.properties["gsd"] == 10
        dem, mask = (item.assets[name].get_absolute_href() for name in ("dem", "datamask"))
        with rasterio.open(dem) as source:
            assert (source.nodata, source.dtypes) == (-9999, ("float32",))
            assert source.transform.c % 10 == source.transform.f % 10 == 0
            assert list(source.bounds) == item.properties["proj:bbox"]
            parts.append((source.bounds, source.read(1)))
        np.testing.assert_array_equal(read(mask) == 1, parts[-1][1] != -9999)
    (a, first), (b, second) = parts[:2]
    left, bottom, right, top = max(a.left, b.left), max(a.bottom, b.bottom), min(a.right, b.right), min(a.top, b.top)
    assert min(right - left, top - bottom) >= 200
    common = [
        part[
            round((box.top - top) / 10) : round((box.top - bottom) / 10),
            round((left - box.left) / 10) : round((right - box.left) / 10),
        ]
        for box, part in ((a, first), (b, second))
    ]
    np.testing.assert_array_equal(*common)


def test_the_elevation_has_a_small_hole(world: World) -> None:
    unknown = [read(path) == -9999 for path in world.folder.rglob("*_dem.tif")]
    assert 300 < sum(part.sum() for part in unknown) < 1500
    assert sum(part.size for part in unknown) > 100_000


def test_trends_lie_on_the_lattice_of_the_cube(world: World) -> None:
    vintages = sorted(Path(world.tcvis).parent.glob("*.tif"))
    assert [str(path) for path in vintages] == [world.tcvis.format(vintage=year) for year in (2022, 2024)]
    for path in vintages:
        with rasterio.open(path) as source:
            assert source.crs.to_epsg() == 4326
            assert source.dtypes == ("uint8",) * 3
            assert source.descriptions == ("tc_brightness", "tc_greenness", "tc_wetness")
            assert source.transform.a == -source.transform.e == RESOLUTION
            for steps in ((source.transform.c + 180) / RESOLUTION, (90 - source.transform.f) / RESOLUTION):
                assert steps == pytest.approx(round(steps), abs=1e-4)
            bands = source.read().astype(float)
        land = bands.min(axis=0) > 0
        assert np.abs(np.median(bands[:, land], axis=1) - 128).max() < 6


def test_slumps_show_in_reflectance_terrain_and_trends(world: World) -> None:
    truth = gpd.read_file(world.truth)
    assert list(truth.columns) == ["scene_id", "slump_id", "area_m2", "geometry"]
    assert truth["area_m2"].between(4_000, 160_000).all()
    np.testing.assert_allclose(truth["area_m2"], truth.to_crs("EPSG:6931").area, rtol=1e-5)
    clear = world.items[0]
    outlines = truth[truth["scene_id"] == clear.stem]
    assert len(outlines) >= 3
    assets = read_item(str(clear))["assets"]
    with rasterio.open(assets["B04_10m"]["href"]) as source:
        grid, red = source.transform, source.read(1) * 1e-4 - 0.1
    nir = read(assets["B08_10m"]["href"]) * 1e-4 - 0.1
    ndvi = (nir - red) / (nir + red)

    def inside(geometry: Any, shape: tuple[int, int], transform: Any) -> Any:
        return rasterize(geometry, shape, transform=transform).astype(bool)

    mask, around = (inside(g, red.shape, grid) for g in (outlines.buffer(-10), outlines.buffer(60)))
    around &= ~inside(outlines.buffer(10), red.shape, grid)
    assert np.median(ndvi[mask]) < 0.3 < np.median(ndvi[around])
    assert np.median(red[mask]) > 1.5 * np.median(red[around])

    with rasterio.open(world.tcvis.format(vintage=2024)) as source:
        brightness, greenness, _ = source.read().astype(float)
        mask = inside(outlines.buffer(-20).to_crs(4326), brightness.shape, source.transform)
    assert brightness[mask].mean() > np.median(brightness) + 15
    assert greenness[mask].mean() < np.median(greenness) - 10


def test_slumps_of_shared_ground_keep_their_names(world: World) -> None:
    truth = gpd.read_file(world.truth)
    shared = truth.groupby("slump_id").filter(lambda rows: len(rows) > 1)
    assert len(shared) >= 2
    for _, rows in shared.groupby("slump_id"):
        assert rows.geometry.iloc[0].equals(rows.geometry.iloc[1])


def test_a_world_is_reused_and_replaced_when_parameters_change(tmp_path: Path) -> None:
    small = {"scenes": 1, "size": 200, "slumps": 1}
    world = build_world(tmp_path / "world", seed=1, **small)
    before = world.items[0].stat().st_mtime_ns
    assert build_world(tmp_path / "world", seed=1, **small) == world
    assert world.items[0].stat().st_mtime_ns == before
    build_world(tmp_path / "world", seed=2, **small)
    assert json.loads((tmp_path / "world" / "world.json").read_text())["seed"] == 2
    assert world.items[0].stat().st_mtime_ns != before


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("precious")
    with pytest.raises(SettingsError, match="thesis exists and is not a demo world"):
        build_world(tmp_path / "thesis", scenes=1, size=200)
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "precious"


@pytest.mark.parametrize(("name", "value"), [("scenes", 0), ("scenes", 4), ("size", 100), ("size", 301), ("seed", -1)])
def test_parameters_out_of_range_are_refused(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(SettingsError, match=name):
        build_world(tmp_path / "world", **{name: value})
    assert not (tmp_path / "world").exists()


def test_a_killed_build_leaves_nothing_that_looks_complete(
    world: World, parameters: dict[str, int], tmp_path: Path
) -> None:
    folder = tmp_path / "world"
    builder = subprocess.Popen([sys.executable, "-c", BUILD, str(folder), json.dumps(parameters)])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".world.building-*/scenes/*/R10m/*.tif")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    assert list(tmp_path.glob(".world.building-*"))
    assert not folder.exists()

    healed = build_world(folder, **parameters)
    assert not list(tmp_path.glob(".world.building-*"))
    assert rasters(healed.folder) == rasters(world.folder)


def test_a_world_is_a_plain_value(world: World) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        world.folder = Path()  # type: ignore[misc]

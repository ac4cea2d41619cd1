"""Real pixels through the whole chain: an L2A scene with its own item, and a clip of real slumps without an SCL."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.warp

from darts_assets.orchestration.core.partitions import CHUNK_KEYS, SENTINEL2, STEPS
from tests.e2e.harness import Site, metadata_of, reason
from tests.sample_data.auxiliary_layers import write_layers

L2A = "data/rio_tiler_pds/tests/fixtures/sentinel-cogs/sentinel-s2-l2a-cogs/29/R/KH/2020/2/S2A_29RKH_20200219_0_L2A"
PEEL = "data/rts_digitization_experiment"
PATCHES = {"patch_size": 512, "overlap": 64}
PEEL_BANDS = {"blue": 1, "green": 2, "red": 3, "nir": 7}  # B2 B3 B4 B5 B6 B7 B8


@pytest.fixture
def l2a_item(shared: Path, tmp_path: Path) -> Path:
    """The scene's real item, its assets' hrefs turned to the files that are here."""
    folder = shared / L2A
    item = json.loads((folder / f"{folder.name}.json").read_text())
    here = {path.name for path in folder.glob("*.tif")}
    for asset in item["assets"].values():
        name = asset["href"].rpartition("/")[2]
        if name in here:
            asset["href"] = str(folder / name)
    path = tmp_path / f"{folder.name}.json"
    path.write_text(json.dumps(item))
    return path


@pytest.fixture
def peel_item(shared: Path, tmp_path: Path) -> Path:
    """An item of our own for the Peel clip: top-of-atmosphere bands in one file, no scene classification."""
    file = next((shared / PEEL / "peel" / "data").glob("S2_*.tif"))
    with rasterio.open(file) as source:
        grid, shape = list(source.transform)[:6], list(source.shape)
        bounds = rasterio.warp.transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    bands = [{"name": f"b{i}"} for i in range(1, 8)]
    for name, index in PEEL_BANDS.items():
        bands[index - 1] = {"name": name, "eo:common_name": name}
    west, south, east, north = bounds
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item = {
        "type": "Feature", "stac_version": "1.1.0", "id": "S2_20210821T210019_20210821T210020_T08WMA",
        "stac_extensions": [], "links": [], "bbox": list(bounds),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"datetime": "2021-08-21T21:00:19Z", "view:sun_azimuth": 183.1, "view:sun_elevation": 33.6},
        "assets": {"image": {
            "href": str(file), "type": "image/tiff", "roles": ["data"], "bands": bands, "nodata": 0,
            "data_type": "uint16", "raster:scale": 1e-4, "raster:offset": 0.0,
            "proj:code": "EPSG:32608", "proj:shape": shape, "proj:transform": grid,
        }},
    }  # fmt: skip
    path = tmp_path / "peel.json"
    path.write_text(json.dumps(item))
    return path


def _with_layers(site: Site, scene: str, folder: Path) -> Site:
    raw = site.resource("raw")
    geobox = raw.geobox(SENTINEL2, site.resource("scenes").scene(SENTINEL2, scene))
    return site.using(**write_layers(folder, geobox, resolution=10), auxiliary=("arcticdem", "tcvis"))


def _run(site: Site, scene: str) -> Path:
    result = site.run(scene, segmentation=PATCHES)
    assert result.success, reason(result)
    assert all(scene in site.materialized(step) for step in STEPS)
    return Path(metadata_of(result, "products")["path"])


def test_a_real_l2a_scene_with_and_without_auxiliary_data(
    new_site: Callable[..., Site], l2a_item: Path, shared: Path, tmp_path: Path
) -> None:
    site = new_site(auxiliary=())
    (scene,) = site.register(l2a_item)
    folder = _run(site, scene)
    tile = site.load("preprocessed_tile", scene)
    with rasterio.open(shared / L2A / "B04.tif") as red, rasterio.open(shared / L2A / "SCL.tif") as scl:
        numbers, classes = red.read(1), np.kron(scl.read(1), np.ones((2, 2), "uint8"))
    # Processing baseline 02.14: no offset. DARTS would have subtracted 0.1.
    valid = (numbers > 0) & (classes > 0) & np.isfinite(tile["red"].values)
    np.testing.assert_allclose(tile["red"].values[valid], numbers[valid] / 10_000, atol=6e-5)
    assert valid.mean() > 0.99
    quality = tile["quality_data_mask"].values
    assert set(np.unique(quality[np.isin(classes, (8, 9))])) <= {0, 1}
    assert set(np.unique(quality[np.isin(classes, (5, 10)) & valid])) == {2}
    assert (folder / "prediction_segments.gpkg").exists()

    # At 25 degrees north there is no ArcticDEM and no TCVIS: nothing but holes, which the check tells.
    equipped = new_site("equipped")
    equipped.register(l2a_item)
    result = equipped.run(scene, segmentation=PATCHES)
    assert result.success, reason(result)
    tile = equipped.load("preprocessed_tile", scene)
    assert bool(np.isnan(tile["dem"]).all())
    assert bool(np.isfinite(tile["ndvi"]).any())
    (check,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "auxiliary_coverage"]
    assert not check.passed
    assert "arcticdem lacks 100 %" in (check.description or "")


def test_real_slumps_without_a_scene_classification(
    new_site: Callable[..., Site], peel_item: Path, shared: Path, tmp_path: Path
) -> None:
    site = new_site(auxiliary=())
    (scene,) = site.register(peel_item)
    _run(site, scene)
    tile = site.load("preprocessed_tile", scene)
    assert tile.attrs["scl"] == "absent"
    assert set(np.unique(tile["quality_data_mask"])) <= {0, 2}
    assert "s2_scl" not in tile
    outlines = gpd.read_file(shared / PEEL / "experts" / "expert_04" / "Peel_digitized.shp").to_crs(32608)
    inside = rasterio.features.rasterize(
        outlines.geometry, tile["ndvi"].shape, transform=tile.odc.geobox.affine, dtype="uint8"
    ).astype(bool)
    ndvi = tile["ndvi"].values
    assert inside.sum() > 100
    assert np.nanmean(ndvi[inside]) < np.nanmean(ndvi[~inside]) - 0.1, "slumps are bare: pixels are where they belong"

    equipped = _with_layers(site, scene, tmp_path / "layers")
    folder = _run(equipped, scene)
    tile = equipped.load("preprocessed_tile", scene)
    assert float(np.isfinite(tile["slope"]).mean()) > 0.9
    assert set(np.unique(tile["tc_greenness"])) == {120}
    assert equipped.instance.get_materialized_partitions(CHUNK_KEYS["arcticdem"])
    assert Counter(path.suffix for path in folder.iterdir()) == {
        ".tif": 2, ".gpkg": 2, ".parquet": 2, ".jpg": 1, ".json": 1, ".qml": 4, ".zip": 1
    }  # fmt: skip

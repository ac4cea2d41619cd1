"""The chain on SAFE products: the products of a scene are those of the same pixels as GeoTIFFs."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from darts_assets.demo import World
from darts_assets.orchestration.scene_discovery.registration import register_any
from darts_assets.sources import read_item
from darts_assets.stores.latest import LATEST
from tests.e2e.harness import Site
from tests.sample_data.safe_products import converted, write_folder, write_zip


def test_a_zipped_product_is_mapped_like_geotiffs(
    world: World, new_site: Callable[..., Site], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    item = read_item(str(world.items[0]))
    files = converted(item)
    path = write_zip(tmp_path / "a.SAFE.zip", files, item["id"], compression=zipfile.ZIP_DEFLATED)
    results = []
    for name, location in (("safe", path), ("cogs", world.items[0])):
        site = new_site(name)
        (scene,) = register_any(site.instance, site.resource("scenes"), [str(location)])
        assert scene == item["id"]
        assert site.run(scene).success
        folder = Path(site.settings.root.path) / "products/sentinel2" / scene / LATEST
        with rasterio.open(folder / "probabilities.tif") as file:
            results.append((file.read(1), gpd.read_parquet(folder / "prediction_segments.parquet")))
    (ours, slumps), (theirs, expected) = results
    assert len(slumps) > 0
    assert np.array_equal(ours, theirs)
    assert slumps.geometry.geom_equals(expected.geometry).all()


def test_a_folder_of_products_is_registered(world: World, site: Site, tmp_path: Path) -> None:
    ids = []
    for path in world.items:
        item = read_item(str(path))
        ids.append(item["id"])
        write_folder(tmp_path / "archive", converted(item), item["id"])
    registered = register_any(site.instance, site.resource("scenes"), [str(tmp_path / "archive")])
    assert sorted(registered) == sorted(ids)
    assert set(site.instance.get_dynamic_partitions("sentinel2_scene")) == set(ids)
    scene = site.resource("scenes").scene(site.family, ids[0])
    assert scene.source == "safe"

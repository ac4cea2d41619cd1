"""A cube filled from the demo world's overlapping tiles equals a direct mosaic of them, however they are reached."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from darts_assets.cubes import ArcticDemTiles, Cube, ensure, stac_search
from darts_assets.demo import World, build_world
from darts_assets.remote import retry
from tests.servers.network.file_server import serve_folder
from tests.servers.network.http_proxy import proxy_of


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("truth") / "world", seed=11, scenes=1, size=300, slumps=2)


def items_of(world: World) -> list[Path]:
    return sorted(path for path in world.arcticdem.parent.rglob("*.json") if path != world.arcticdem)


def mosaic_of(world: World, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray, int]:
    """Elevations, masks, and how many pixels two tiles have; put down in reverse order, so that the first tile wins."""
    dem, mask = np.full(geobox.shape, np.nan, dtype="float32"), np.zeros(geobox.shape, dtype="uint8")
    times = np.zeros(geobox.shape, dtype=int)
    for item in reversed(items_of(world)):
        with rasterio.open(str(item).replace(".json", "_dem.tif")) as file:
            col, row = (round(n) for n in ~geobox.affine @ (file.transform.c, file.transform.f))
            elevation = file.read(1)
        with rasterio.open(str(item).replace(".json", "_datamask.tif")) as file:
            valid = file.read(1)
        place = slice(row, row + len(elevation)), slice(col, col + elevation.shape[1])
        known = elevation != -9999
        dem[place][known] = elevation[known]
        mask[place][known] = valid[known]
        times[place] += known
    return dem, mask, int((times > 1).sum())


@pytest.fixture(params=["static catalog", pytest.param("STAC API over HTTP", marks=pytest.mark.slow)])
def where(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tiles on disk; or found through an API and read over HTTP, both of which fail now and then."""
    if request.param == "static catalog":
        yield str(world.arcticdem)
        return
    api = request.getfixturevalue("stac_api")
    monkeypatch.setattr(stac_search, "COLLECTION", "demo-{resolution:g}m")  # beside those of other tests
    monkeypatch.setattr(retry, "BACKOFF", (0.01, 0.01))
    folder = world.arcticdem.parent
    with ExitStack() as stack:
        files = stack.enter_context(proxy_of(stack.enter_context(serve_folder(folder))))
        service = stack.enter_context(proxy_of(api.url))
        items = []
        for path in items_of(world):
            item = json.loads(path.read_text())
            for asset in item["assets"].values():
                asset["href"] = f"{files.url}/{(path.parent / asset['href']).relative_to(folder)}"
            items.append(item | {"links": []})
        api.load("demo-10m", items)
        service.fail("POST /search", 503)
        files.fail("_dem.tif", 503, skip=3, times=2)
        files.fail("_datamask.tif", "drop", skip=5, times=2)
        yield service.url
        assert not service.pending
        assert not files.pending


def test_the_cube_equals_the_mosaic(world: World, where: str, cube: Cube) -> None:
    grid = cube.spec.grid
    boxes = []
    for item in items_of(world):
        with rasterio.open(str(item).replace(".json", "_dem.tif")) as file:
            boxes.append(GeoBox.from_rio(file))
    keys = sorted({key for box in boxes for key in grid.chunks_for(box)})
    filled = ensure(cube, keys, ArcticDemTiles(where).read_chunk, message="truth", workers=2)
    assert [chunk.key for chunk in filled] == keys
    assert {source for chunk in filled for source in chunk.sources} == {item.stem for item in items_of(world)}

    rows, cols = zip(*(grid.parse(key) for key in keys), strict=True)
    geobox = grid.geobox[min(rows) * 1024 : (max(rows) + 1) * 1024, min(cols) * 1024 : (max(cols) + 1) * 1024]
    dem, mask, shared_pixels = mosaic_of(world, geobox)
    assert len(boxes) > 1
    assert shared_pixels > 1000
    assert np.isnan(dem).any()
    for key in keys:
        chunk = grid.chunk_geobox(*grid.parse(key))
        col, row = (round(n) for n in ~geobox.affine @ (chunk.affine.c, chunk.affine.f))
        place = slice(row, row + 1024), slice(col, col + 1024)
        window = cube.window(chunk)
        np.testing.assert_allclose(window.dem, dem[place], atol=0.00502)
        np.testing.assert_array_equal(window.arcticdem_data_mask, mask[place])

"""Chunks of ArcticDEM equal a direct mosaic of the tiles, whatever their layout."""

import json
import re
from pathlib import Path

import numpy as np
import pystac
import pytest
from odc.geo.geobox import GeoBox

from darts_assets.cubes import ArcticDemTiles, CubeGrid, arcticdem_spec
from darts_assets.errors import CubeError, RasterError

GRID: CubeGrid = arcticdem_spec(10).grid
CHUNK_BOX = GRID.chunk_geobox(200, 300)
LEFT, TOP = CHUNK_BOX.affine.c, CHUNK_BOX.affine.f


def test_the_mosaic_of_overlapping_tiles(mosaic, make_tile_box, make_surface) -> None:
    # Two tiles that overlap by 200 pixels, the second with values of its own; both reach out of the chunk.
    west = make_tile_box(LEFT - 300, TOP + 500, 600, 700)
    east = make_tile_box(LEFT + 3700, TOP - 1000, 900, 500)
    first = make_surface(west)
    first[60:90, 450:520] = np.nan  # a hole in the first tile, partly over the second
    mosaic.add("60_42_10m_v4.1", west, first)
    mosaic.add("60_43_10m_v4.1", east, make_surface(east) + 5)
    mosaic.add("61_43_10m_v4.1", make_tile_box(LEFT - 50_000, TOP, 100, 100))
    mosaic.add("60_42_32m_v4.1", make_tile_box(LEFT, TOP, 100, 100, 32), gsd=32)
    # A direct mosaic: later tiles underneath.
    expected = np.full((1024, 1024), np.nan, dtype="float32")
    expected[100:600, 370:1270] = (make_surface(east) + 5)[:, : 1024 - 370]
    upper = first[50:, 30:]
    block = expected[: upper.shape[0], : upper.shape[1]]
    np.copyto(block, upper, where=np.isfinite(upper))

    data = ArcticDemTiles(str(mosaic.folder)).read_chunk(CHUNK_BOX)
    np.testing.assert_array_equal(data.values["dem"], expected)
    assert data.values["dem"].dtype == np.float32
    np.testing.assert_array_equal(data.values["arcticdem_data_mask"], np.isfinite(expected))
    assert data.values["arcticdem_data_mask"].dtype == np.uint8
    assert data.sources == ("60_42_10m_v4.1", "60_43_10m_v4.1")
    assert data.fill_fraction == pytest.approx(np.isfinite(expected).mean())


def test_a_chunk_without_a_tile_is_empty(mosaic, make_tile_box) -> None:
    mosaic.add("a", make_tile_box(LEFT - 1000, TOP, 100, 100))  # ends where the chunk begins
    data = ArcticDemTiles(str(mosaic.folder)).read_chunk(CHUNK_BOX)
    assert np.isnan(data.values["dem"]).all()
    assert not data.values["arcticdem_data_mask"].any()
    assert data.sources == ()
    assert data.fill_fraction == 0


def test_tiles_off_the_lattice_are_interpolated(mosaic, make_tile_box, make_surface) -> None:
    mosaic.add("a", make_tile_box(LEFT - 54, TOP + 57, 1050, 1050))
    data = ArcticDemTiles(str(mosaic.folder)).read_chunk(CHUNK_BOX)
    assert np.abs(data.values["dem"] - make_surface(CHUNK_BOX)).max() < 0.01
    assert data.values["arcticdem_data_mask"].all()


def test_nodata_of_the_item_counts_where_the_file_has_none(mosaic, make_tile_box, make_surface, raster_writer) -> None:
    box = make_tile_box(LEFT, TOP, 64, 64)
    dem = make_surface(box)
    item = mosaic.add("a", box, dem)
    raw = dem.copy()
    raw[:8] = -32767
    raster_writer(mosaic.folder / "a_dem.tif", raw, box)
    item["assets"]["dem"]["nodata"] = -32767
    (mosaic.folder / "a.json").write_text(json.dumps(item))
    values = ArcticDemTiles(str(mosaic.folder)).read_chunk(CHUNK_BOX).values["dem"]
    assert np.isnan(values[:8]).all()
    np.testing.assert_array_equal(values[8:64, :64], dem[8:])


@pytest.mark.parametrize("form", ["folder", "item collection", "catalog", "item", "folder with a catalog"])
def test_every_form_of_a_static_catalog(mosaic, make_tile_box, form: str) -> None:
    boxes = [make_tile_box(LEFT, TOP, 64, 64), make_tile_box(LEFT + 640, TOP, 64, 64)]
    items = [mosaic.add(name, box) for name, box in zip("ab", boxes, strict=True)]
    href = str(mosaic.folder)
    if form == "item":
        href += "/a.json"
    elif form == "item collection":
        href += "/items.geojson"
        Path(href).write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    elif "catalog" in form:
        catalog = pystac.Catalog("dem", "tiles")
        for path in sorted(mosaic.folder.glob("?.json")):
            catalog.add_item(pystac.Item.from_file(str(path)))
        catalog.normalize_hrefs(str(mosaic.folder / "catalog"))
        for item in catalog.get_items():
            item.make_asset_hrefs_relative()
        catalog.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)
        href += "/catalog" if "folder" in form else "/catalog/catalog.json"
    tiles = ArcticDemTiles(href)
    assert [tile.id for tile in tiles.under(CHUNK_BOX)] == (["a"] if form == "item" else ["a", "b"])
    assert tiles.read_chunk(CHUNK_BOX).fill_fraction == pytest.approx(64 * 64 * (1 if form == "item" else 2) / 1024**2)


@pytest.mark.parametrize(
    ("resolution", "name", "bounds"),
    [
        (2, "60_42_2_2_2m_v4.1", (150_000, 1_950_000, 200_000, 2_000_000)),
        (10, "60_42_10m_v4.1", (100_000, 1_900_000, 200_000, 2_000_000)),
        (32, "60_42_32m_v4.1", (100_000, 1_900_000, 200_000, 2_000_000)),
    ],
)
def test_the_provider_s_items_are_understood(shared, resolution: int, name: str, bounds: tuple[int, ...]) -> None:
    tiles = ArcticDemTiles(str(shared / "data" / "pgc_template_items"))
    box = GeoBox.from_bbox(bounds, "EPSG:3413", resolution=resolution, tight=True)
    (tile,) = tiles.under(box)
    assert (tile.id, tile.resolution, tuple(tile.bounds), tile.nodata) == (name, resolution, bounds, -9999)
    assert tile.dem.startswith("https://pgc-opendata-dems.")
    assert tile.dem.endswith(f"/{resolution}m/60_42/{name}_dem.tif")
    assert tile.datamask.endswith(f"/{resolution}m/60_42/{name}_datamask.tif")
    rows, cols = arcticdem_spec(resolution).grid.window(box)
    assert (rows.stop - rows.start, cols.stop - cols.start) == box.shape  # on the cube's lattice


def test_a_catalog_without_tiles_of_the_resolution_is_not_an_empty_cube(mosaic, make_tile_box) -> None:
    mosaic.add("a", make_tile_box(LEFT, TOP, 64, 64))
    tiles = ArcticDemTiles(str(mosaic.folder))
    with pytest.raises(CubeError, match=r"mosaic lists only tiles of 10 m, expected ArcticDEM mosaic tiles of 32 m"):
        tiles.read_chunk(arcticdem_spec(32).grid.chunk_geobox(60, 90))
    catalog = mosaic.folder / "catalog.json"
    pystac.Catalog("empty", "nothing").save_object(dest_href=str(catalog), include_self_link=False)
    with pytest.raises(CubeError, match=r"catalog\.json lists no items, expected .* of 10 m"):
        ArcticDemTiles(str(catalog)).read_chunk(CHUNK_BOX)


def test_footprints_from_transform_and_epsg_of_older_items(mosaic, make_tile_box) -> None:
    item = mosaic.add("a", make_tile_box(LEFT, TOP, 64, 64))
    for name in ("proj:bbox", "proj:code", "gsd"):
        del item["properties"][name]
    item["properties"]["proj:epsg"] = 3413
    (mosaic.folder / "a.json").write_text(json.dumps(item))
    (tile,) = ArcticDemTiles(str(mosaic.folder)).under(CHUNK_BOX)
    assert tuple(tile.bounds) == (LEFT, TOP - 640, LEFT + 640, TOP)


def test_bad_items_are_named(mosaic, make_tile_box) -> None:
    item = mosaic.add("a", make_tile_box(LEFT, TOP, 64, 64))

    def error(**changes) -> str:
        changed = {**item, **changes}
        (mosaic.folder / "a.json").write_text(json.dumps(changed))
        with pytest.raises(CubeError) as caught:
            ArcticDemTiles(str(mosaic.folder)).read_chunk(CHUNK_BOX)
        return str(caught.value)

    assert "item a: no asset 'datamask'; it has dem" in error(assets={"dem": item["assets"]["dem"]})
    elsewhere = {**item["properties"], "proj:code": "EPSG:3031"}
    assert "expected an ArcticDEM mosaic tile in EPSG:3413, not EPSG:3031" in error(properties=elsewhere)
    without = {k: v for k, v in item["properties"].items() if k not in ("proj:bbox", "proj:shape")}
    assert "item a: no proj:bbox" in error(properties=without)
    (mosaic.folder / "a.json").write_text("{nonsense")
    for href, words in [
        (mosaic.folder, "a.json cannot be read as STAC"),
        (mosaic.folder / "nowhere.json", "nowhere.json cannot be read as STAC"),
    ]:
        with pytest.raises(CubeError, match=re.escape(words)):
            ArcticDemTiles(str(href)).under(CHUNK_BOX)
    (mosaic.folder / "a.json").unlink()
    with pytest.raises(CubeError, match="no STAC item files"):
        ArcticDemTiles(str(mosaic.folder)).under(CHUNK_BOX)


def test_bad_files_are_named(mosaic, make_tile_box, make_surface, raster_writer) -> None:
    box = make_tile_box(LEFT, TOP, 512, 512)
    mosaic.add("a", box)
    path = mosaic.folder / "a_dem.tif"
    whole = path.read_bytes()
    tiles = ArcticDemTiles(str(mosaic.folder))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RasterError, match=r"a_dem\.tif cannot be read"):
        tiles.read_chunk(CHUNK_BOX)
    path.write_bytes(b"not a raster")
    with pytest.raises(RasterError, match=r"a_dem\.tif cannot be read"):
        tiles.read_chunk(CHUNK_BOX)
    raster_writer(path, make_surface(box).astype("int16"), box)
    with pytest.raises(RasterError, match=r"a_dem\.tif holds int16, expected float32"):
        tiles.read_chunk(CHUNK_BOX)
    raster_writer(path, make_surface(box), GeoBox(box.shape, box.affine, "EPSG:32633"))
    with pytest.raises(RasterError, match=r"a_dem\.tif is in EPSG:32633, expected EPSG:3413"):
        tiles.read_chunk(CHUNK_BOX)
    path.unlink()
    with pytest.raises(RasterError, match=r"a_dem\.tif cannot be read.*No such file"):
        tiles.read_chunk(CHUNK_BOX)
